mod bwrap;
mod bwrap_life;
mod nsenter;
mod probe;
mod row;
mod tools;
mod unshare;
