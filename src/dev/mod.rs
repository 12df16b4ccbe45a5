//! What `cmk dev` brings up around the service on one machine. The service itself never imports from here.

pub mod postgres;
