mod bwrap;
mod bwrap_life;
mod probe;
mod row;
mod tools;
mod unshare;
