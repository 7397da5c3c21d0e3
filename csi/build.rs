//! Turns the two protocol files into Rust. `protox` reads them, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    for file in ["csi.proto", "pluginregistration.proto"] {
        let descriptors = protox::compile([file], ["proto"])?;
        tonic_prost_build::configure()
            .build_client(true)
            .generate_default_stubs(true)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
