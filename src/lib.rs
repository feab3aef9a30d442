//! Linux namespaces as a library.
