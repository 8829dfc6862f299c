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

/// Information of our own Requester about itself; not Routr's.
pub mod requester_info {
    tonic::include_proto!("routr.registry.requester.v1");
}

pub use fonoster::routr::common::v2beta1 as common;
pub use fonoster::routr::connect::credentials::v2beta1 as credentials;
pub use fonoster::routr::connect::trunks::v2beta1 as trunks;
pub use fonoster::routr::processor::v2beta1 as processor;
pub use fonoster::routr::requester::v2beta1 as requester;
pub use fonoster::routr::sipmessage::v2beta1 as sipmessage;

use std::fmt;

impl fmt::Debug for credentials::Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ref", &self.r#ref)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for sipmessage::Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if routr_sip::headers::is_secret(&self.name) { "***" } else { &self.value };
        f.debug_struct("Extension").field("name", &self.name).field("value", &value).finish()
    }
}

impl fmt::Debug for sipmessage::Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let credentials = credentials::Credentials { password: "swordfish-77".into(), ..Default::default() };
        let trunk = trunks::Trunk { outbound_credentials: Some(credentials), ..Default::default() };
        let header = |name: &str| sipmessage::Extension { name: name.into(), value: "swordfish-77".into() };
        let extensions =
            ["X-Gateway-Auth", "x-gateway-auth", "Authorization", "Proxy-Authorization"].map(header);
        let authorization =
            sipmessage::Authorization { response: "swordfish-77".into(), ..Default::default() };
        let message = sipmessage::SipMessage {
            extensions: extensions.into(),
            authorization: Some(authorization),
            ..Default::default()
        };
        assert!(!format!("{trunk:?} {message:?}").contains("swordfish"));
        assert!(format!("{:?}", header("Server")).contains("swordfish"), "the others are shown");
    }
}
