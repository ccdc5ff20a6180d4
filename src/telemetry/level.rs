//! The level of the log, which a file may change while the program runs: a ConfigMap's, say, mounted into the Pod.

use std::{path::Path, time::Duration};

use tokio::io::AsyncReadExt as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, filter::Targets, reload};

/// How often the file is read. The kubelet needs up to a minute to show a changed ConfigMap.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// No level is longer; what is in a file that is may be anything.
const LONGEST: u64 = 64;

/// Sets the level; clones set the same.
#[derive(Clone, Debug)]
pub struct LogLevel {
    pub(super) filter: reload::Handle<Targets, Registry>,
    /// The one that is set.
    pub(super) level: LevelFilter,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FileSays {
    Level(LevelFilter),
    NoLevel,
    Unreadable(String),
}

impl LogLevel {
    /// Sets the level that the file says from here on, for ever. What it says and is no level changes nothing, and is told once.
    pub async fn follow(self, file: &Path) {
        self.follow_every(file, LOOK_EVERY).await;
    }

    pub(super) async fn follow_every(mut self, file: &Path, every: Duration) {
        let mut last = None;
        loop {
            let said = read(file).await;
            if last.as_ref() != Some(&said) {
                self.take(&said, file);
                last = Some(said);
            }
            tokio::time::sleep(every).await;
        }
    }

    fn take(&mut self, said: &FileSays, file: &Path) {
        let file = file.display();
        match said {
            FileSays::Level(level) if *level == self.level => {}
            FileSays::Level(level) => {
                let (before, level) = (self.level, *level);
                // It fails only where there is no log any more.
                if self.filter.reload(super::filter(level)).is_ok() {
                    self.level = level;
                    tracing::info!(%level, %before, %file, "the log level was changed");
                }
            }
            FileSays::NoLevel => tracing::warn!(
                %file, level = %self.level,
                "the file of --log-level-file holds no level, so that it stays as it is; write error, warn, info, debug or trace"
            ),
            FileSays::Unreadable(error) => tracing::warn!(
                %file, level = %self.level,
                "the file of --log-level-file can't be read, so that the level stays as it is: {error}"
            ),
        }
    }
}

async fn read(file: &Path) -> FileSays {
    let read = async {
        let mut text = Vec::new();
        tokio::fs::File::open(file).await?.take(LONGEST).read_to_end(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    match read.await {
        Ok(text) => {
            std::str::from_utf8(&text).ok().and_then(level).map_or(FileSays::NoLevel, FileSays::Level)
        }
        Err(error) => FileSays::Unreadable(error.kind().to_string()),
    }
}

/// One of the levels of `--log-level`.
fn level(text: &str) -> Option<LevelFilter> {
    let text = text.trim();
    let known = super::LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    known.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_of_those_of_the_flag() {
        for (text, expected) in [
            ("debug", Some(LevelFilter::DEBUG)),
            (" Warn\n", Some(LevelFilter::WARN)),
            ("", None),
            ("off", None),
            ("5", None),
            ("conjur_operator=trace", None),
        ] {
            assert_eq!(level(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn what_a_file_holds_is_bounded_and_may_be_missing() {
        let file = std::env::temp_dir().join(format!("conjur-operator-level-{}", std::process::id()));
        assert!(matches!(read(&file).await, FileSays::Unreadable(_)));
        for (text, said) in [
            (b"trace\n".to_vec(), FileSays::Level(LevelFilter::TRACE)),
            (vec![b' '; 1_000_000], FileSays::NoLevel),
            (vec![0xff, 0xfe], FileSays::NoLevel),
        ] {
            tokio::fs::write(&file, &text).await.unwrap();
            assert_eq!(read(&file).await, said);
        }
        tokio::fs::remove_file(&file).await.unwrap();
    }
}
