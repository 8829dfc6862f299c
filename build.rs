//! Compiles Routr's protobuf contract with protox, so that no protoc has to be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors =
        protox::compile(["trunks.proto", "requester.proto", "requester_info.proto"], ["proto"])?;
    // Their Debug is written by hand, in src/proto.rs: they hold secrets.
    let secret = [
        ".fonoster.routr.connect.credentials.v2beta1.Credentials",
        ".fonoster.routr.sipmessage.v2beta1.Extension",
        ".fonoster.routr.sipmessage.v2beta1.Authorization",
    ];
    tonic_prost_build::configure().skip_debug(secret).compile_fds(descriptors)?;
    Ok(())
}
