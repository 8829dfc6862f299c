//! The operator and a Kubernetes API server under load, or older than itself.
