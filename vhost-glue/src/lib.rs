//! vhost-glue
