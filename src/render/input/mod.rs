//! The inputs of the templates, by subject. No `Option`, no bare string: choices are enums, and
//! what is not there is an empty list.

pub mod endpoint;
pub mod etcd;
pub mod host;
pub mod kubernetes;
pub mod runtime;
