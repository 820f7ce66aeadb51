#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests"))]

mod capture;
mod cli;
mod daemon;
mod error;
mod guests;
mod ledger;
mod port;
mod report;
mod state;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use cli::{Cli, Command, Level, StateCommand};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("vhost-user-net: {} (see --help)", cli::one_line(&error));
            return ExitCode::from(2);
        }
    };
    if let Some(Command::State(StateCommand::Show { file })) = &cli.command {
        return match state::load(file) {
            Ok(found) => {
                daemon::print(&state::show(&found));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("vhost-user-net: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let plans = match cli.guests() {
        Ok(plans) => plans,
        Err(error) => {
            eprintln!("vhost-user-net: {error} (see --help)");
            return ExitCode::from(2);
        }
    };
    let level = match cli.log {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    match daemon::run(&cli, &plans) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-user-net: {error}");
            ExitCode::FAILURE
        }
    }
}
