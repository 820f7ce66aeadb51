//! No C runtime: `_start` is ours.
fn main() {
    println!("cargo:rustc-link-arg=-nostartfiles");
    println!("cargo:rustc-link-arg=-nostdlib");
    println!("cargo:rustc-link-arg=-static");
    // Nobody would relocate it.
    println!("cargo:rustc-link-arg=-no-pie");
}
