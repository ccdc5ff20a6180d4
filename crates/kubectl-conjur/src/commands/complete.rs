//! What a shell is to offer behind `kubectl conjur`: kubectl runs `kubectl_complete-conjur`, which runs this, and reads a line for each
//! candidate and one with what to do with them.

use std::time::Duration;

use anstream::println;
use clap::{Command, CommandFactory as _};

use crate::{
    Ended, Error,
    cli::{Cli, ClusterArgs},
    cluster::{Cluster, Kind, Seen},
};

/// Names of objects that are not there by then are not offered.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of cobra's protocol: no names of files.
const NO_FILES: &str = ":4";

pub async fn run(words: &[String], cluster: &ClusterArgs) -> Ended {
    let (last, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut offered = static_words(before, last);
    if let Some(kinds) = kinds(before).filter(|_| !last.starts_with('-')) {
        offered.extend(names(&kinds, &with_flags(cluster, before)).await.unwrap_or_default());
    }
    offered.retain(|word| word.starts_with(last));
    offered.sort();
    for word in &offered {
        println!("{word}");
    }
    println!("{NO_FILES}");
    Ended::Well
}

/// The subcommand among the words.
fn subcommand<'c>(cli: &'c Command, words: &[String]) -> Option<&'c Command> {
    words.iter().find_map(|word| cli.find_subcommand(word))
}

/// Subcommands, or the flags of the one that is there.
fn static_words(before: &[String], last: &str) -> Vec<String> {
    let mut cli = Cli::command();
    cli.build();
    let Some(command) = subcommand(&cli, before) else {
        let shown = cli.get_subcommands().filter(|one| !one.is_hide_set());
        return shown.map(|one| one.get_name().to_owned()).collect();
    };
    if last.starts_with('-') {
        let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
        return flags.filter_map(|arg| arg.get_long().map(|long| format!("--{long}"))).collect();
    }
    let values = command.get_positionals().flat_map(clap::Arg::get_possible_values);
    values.map(|value| value.get_name().to_owned()).collect()
}

/// The kinds whose names a subcommand takes.
fn kinds(before: &[String]) -> Option<Vec<Kind>> {
    let own: Vec<_> = Kind::ALL.into_iter().filter(|kind| !kind.is_connection()).collect();
    before.iter().find_map(|word| match word.as_str() {
        "get" | "explain" | "sync" | "events" => Some(Kind::ALL.to_vec()),
        "suspend" | "resume" => Some(own.clone()),
        "rotate" => Some(vec![Kind::Host]),
        "diff" => Some(vec![Kind::Policy]),
        "doctor" => Some(vec![Kind::Connection, Kind::ClusterConnection]),
        _ => None,
    })
}

/// The namespace and context that are typed already.
fn with_flags(cluster: &ClusterArgs, before: &[String]) -> ClusterArgs {
    let after = |flags: &[&str]| {
        let at = before.iter().position(|word| flags.contains(&word.as_str()))?;
        before.get(at + 1).cloned()
    };
    let mut args = cluster.clone();
    args.namespace = args.namespace.or_else(|| after(&["-n", "--namespace"]));
    args.context = args.context.or_else(|| after(&["--context"]));
    args
}

async fn names(kinds: &[Kind], args: &ClusterArgs) -> Result<Vec<String>, Error> {
    let listed = async {
        let cluster = Cluster::of(args).await?;
        cluster.list_seen(kinds, Some(&cluster.namespace)).await.map(|(all, _)| all)
    };
    let all = tokio::time::timeout(PATIENCE, listed).await.unwrap_or_else(|_| Ok(Vec::new()))?;
    Ok(all.iter().map(Seen::short_name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(before: &[&str], last: &str) -> Vec<String> {
        let before: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        static_words(&before, last).into_iter().filter(|word| word.starts_with(last)).collect()
    }

    #[test]
    fn commands_and_then_their_flags_are_offered() {
        assert_eq!(offered(&[], "su"), ["suspend"]);
        assert!(offered(&["-n", "billing"], "").contains(&"explain".to_owned()));
        assert!(!offered(&[], "").iter().any(|word| word.starts_with('_')), "what is hidden");
        let flags = offered(&["get"], "--n");
        assert!(
            flags.contains(&"--not-ready".to_owned()) && flags.contains(&"--namespace".to_owned()),
            "{flags:?}"
        );
        assert_eq!(offered(&["completion"], "z"), ["zsh"]);
    }

    #[test]
    fn the_namespace_that_is_typed_is_meant() {
        let before = ["get", "-n", "billing"].map(str::to_owned);
        assert_eq!(with_flags(&ClusterArgs::default(), &before).namespace.as_deref(), Some("billing"));
        assert_eq!(kinds(&before).map(|kinds| kinds.len()), Some(6));
        assert_eq!(kinds(&["rotate".to_owned()]), Some(vec![Kind::Host]));
        assert_eq!(kinds(&["lint".to_owned()]), None);
    }
}
