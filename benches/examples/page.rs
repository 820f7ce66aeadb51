//! Makes the page of the ring lab again: `page report.json report.html`.

use std::error::Error;
use std::fs;

use ring_benches::lab::page::page;
use ring_benches::lab::report::Report;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(from), Some(to), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: page REPORT.json PAGE.html".into());
    };
    let report: Report = named(&from, fs::read(&from).map_err(Into::into).and_then(|bytes| parse(&bytes)))?;
    named(&to, fs::write(&to, page(&report)).map_err(Into::into))
}

fn parse(bytes: &[u8]) -> Result<Report, Box<dyn Error>> {
    Ok(serde_json::from_slice(bytes)?)
}

/// Errors say which file.
fn named<T>(path: &str, result: Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    result.map_err(|error| format!("{path}: {error}").into())
}
