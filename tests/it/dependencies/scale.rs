//! Thousands of Registries, and the settings of clients and charts.

mod kube_client;
mod many;
