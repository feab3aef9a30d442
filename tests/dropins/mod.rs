mod nsenter;
mod probe;
mod row;
mod tools;
mod unshare;
