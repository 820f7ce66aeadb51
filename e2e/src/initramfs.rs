//! A cpio archive of the "newc" kind, gzipped: what Linux unpacks as its first root file system.
//!
//! ```
//! let mut archive = e2e::initramfs::Archive::default();
//! archive.folder("dev");
//! archive.file("init", 0o755, b"#!/bin/sh\n");
//! assert!(archive.finish()?.starts_with(&[0x1f, 0x8b]), "gzip");
//! # Ok::<(), std::io::Error>(())
//! ```

use flate2::{Compression, write::GzEncoder};
use std::io::Write;

const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// An archive under construction. Names have no leading slash; folders come before what is in them.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder.
    pub fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER | 0o755, (0, 0), &[]);
    }

    /// Adds a file with these permission bits.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, REGULAR | mode, (0, 0), content);
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, CHARACTER | 0o600, (major, minor), &[]);
    }

    /// Closes the archive and compresses it.
    ///
    /// # Errors
    /// Those of the compressor; writing to memory has none of its own.
    pub fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(1));
        gzip.write_all(&self.bytes)?;
        gzip.finish()
    }

    /// Linux Documentation/driver-api/early-userspace/buffer-format.rst: a magic number and 13 fields of eight
    /// hexadecimal digits, the name with a zero byte, padding to 4, the content, padding to 4.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries = self.entries.saturating_add(1);
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len()).unwrap_or(u32::MAX).saturating_add(1);
        // Inode, mode, user, group, links, time, size, device of the archive (2), device of the node (2),
        // name size, checksum (unused in this kind).
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn layout_is_that_of_the_kernel_document() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"hello");
        let head = b"070701\
            00000001000081a400000000000000000000000100000000\
            00000005000000000000000000000000000000000000000200000000a\0hello\0\0\0";
        assert_eq!(String::from_utf8_lossy(&archive.bytes), String::from_utf8_lossy(head));
    }

    #[test]
    fn cpio_lists_and_unpacks_what_was_put_in() {
        if Command::new("cpio").arg("--version").output().is_err() {
            println!("skipped: no cpio program to compare with");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut archive = Archive::default();
        archive.folder("bin");
        for len in 0..9 {
            archive.file(&format!("bin/{}", "x".repeat(len + 1)), 0o755, &vec![b'0' + len as u8; len]);
        }
        archive.entry("TRAILER!!!", 0, (0, 0), &[]);
        let mut cpio = Command::new("cpio");
        cpio.args(["-i", "--quiet"]).current_dir(folder.path()).stdin(Stdio::piped());
        let mut cpio = cpio.spawn().unwrap();
        cpio.stdin.take().unwrap().write_all(&archive.bytes).unwrap();
        assert!(cpio.wait().unwrap().success());
        for len in 0..9 {
            let read = std::fs::read(folder.path().join("bin").join("x".repeat(len + 1))).unwrap();
            assert_eq!(read, vec![b'0' + len as u8; len]);
        }
    }
}
