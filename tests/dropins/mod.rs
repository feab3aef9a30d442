mod probe;
mod row;
mod tools;
mod unshare;
