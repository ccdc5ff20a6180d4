//! `kubectl conjur`: what a person on call asks of conjur-operator, from the command line.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | the arguments |
//! | `commands` | one file a command: reads what it needs, decides in functions without IO, and gives what is to be shown |
//! | `cluster` | the cluster of the kubeconfig: objects of all kinds, by reference |
//! | `connect` | a client of Conjur as a connection has it, or as the environment says |
//! | `files` | YAML files, each document with its line |
//! | `links` | which variables and which Secret an object ties together |
//! | `steps` | what was looked at, one after the other, and what to do where it is not well |
//! | `migrate` | other tools' manifests into the operator's, without IO |
//! | `show` | tables, colours, and the forms that `-o` names |

#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "what is printed is a screen at most: how it reads counts, and not what building it takes"
)]

pub mod cli;
mod cluster;
mod commands;
mod connect;
mod files;
mod links;
mod migrate;
mod show;
mod steps;

use std::process::ExitCode;

use anstream::eprintln;

/// Why a command can't go on: a sentence for the person who typed it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Well,
    /// It was done, and what it looked at is not as it should be, or differs.
    Differs,
}

/// Runs a command, and gives the program's exit code: 0, 1 where something is found or differs, 2 where it can't be done.
pub async fn run(cli: cli::Cli) -> ExitCode {
    // It fails only where there is one already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    cli.look.color.apply();
    match commands::run(cli).await {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Differs) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
