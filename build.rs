//! Compiles Routr's protobuf contract with protox, so that no protoc has to be installed, and lists the field
//! cases.

use std::{env, error::Error, fs, path::Path};

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
    if env::var_os("CARGO_FEATURE_DEMO").is_some() { field_cases() } else { Ok(()) }
}

/// Lists the case files of `devstack::field` for its library: a file that is put there is part of the
/// program.
fn field_cases() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("src/devstack/field/cases");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    let mut list = "const FIELD_CASES: &[(&str, &str)] = &[\n".to_owned();
    for path in &files {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        list.push_str(&format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string()));
    }
    list.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("field_cases.rs"), list)?;
    Ok(())
}
