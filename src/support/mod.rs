//! Whether it will work here.
