//! e2e/agent
fn main() {}
