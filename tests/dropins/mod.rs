mod bwrap;
mod bwrap_life;
mod bwrap_users;
mod nsenter;
mod probe;
mod row;
mod tools;
mod unshare;
