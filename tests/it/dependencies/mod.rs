//! The dependencies as they are run: gRPC through proxies, Redis in every state, a Kubernetes API server
//! under load. Each test is named after its row of the field's cases.

mod breaking;
mod connect;
mod grpc;
mod operator;
mod proxies;
mod redis;
mod scale;
mod sync;
