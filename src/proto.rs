//! Routr's protobuf contract, generated at build time from `proto/`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

pub mod fonoster {
    pub mod routr {
        pub mod common {
            pub mod v2beta1 {
                tonic::include_proto!("fonoster.routr.common.v2beta1");
            }
        }
        pub mod processor {
            pub mod v2beta1 {
                tonic::include_proto!("fonoster.routr.processor.v2beta1");
            }
        }
        pub mod sipmessage {
            pub mod v2beta1 {
                tonic::include_proto!("fonoster.routr.sipmessage.v2beta1");
            }
        }
        pub mod requester {
            pub mod v2beta1 {
                tonic::include_proto!("fonoster.routr.requester.v2beta1");
            }
        }
        pub mod connect {
            pub mod acl {
                pub mod v2beta1 {
                    tonic::include_proto!("fonoster.routr.connect.acl.v2beta1");
                }
            }
            pub mod credentials {
                pub mod v2beta1 {
                    tonic::include_proto!("fonoster.routr.connect.credentials.v2beta1");
                }
            }
            pub mod trunks {
                pub mod v2beta1 {
                    tonic::include_proto!("fonoster.routr.connect.trunks.v2beta1");
                }
            }
        }
    }
}

pub use fonoster::routr::common::v2beta1 as common;
pub use fonoster::routr::connect::credentials::v2beta1 as credentials;
pub use fonoster::routr::connect::trunks::v2beta1 as trunks;
pub use fonoster::routr::processor::v2beta1 as processor;
pub use fonoster::routr::requester::v2beta1 as requester;
pub use fonoster::routr::sipmessage::v2beta1 as sipmessage;
