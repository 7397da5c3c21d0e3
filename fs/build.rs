//! Turns the control socket's protocol into Rust. `protox` reads it, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["control.proto"], ["proto"])?;
    let serialize = "#[derive(serde::Serialize)]";
    tonic_prost_build::configure().type_attribute(".", serialize).compile_fds(descriptors)?;
    Ok(())
}
