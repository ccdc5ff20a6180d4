//! Names that are made of others, and stay as short as the API server asks.

use conjur_operator::seams::hash;

/// The longest name of an object.
const LONGEST: usize = 253;
/// Characters of a hash that tell long names apart.
const HASH: usize = 16;

/// A name between a prefix and a suffix; where that is too long, its beginning and a hash of all of it.
pub fn bounded(prefix: &str, name: &str, suffix: &str) -> String {
    if prefix.len() + name.len() + suffix.len() <= LONGEST {
        return format!("{prefix}{name}{suffix}");
    }
    let hash: String = hash([name]).chars().take(HASH).collect();
    let most = LONGEST - prefix.len() - suffix.len() - hash.len() - 1;
    let kept: String = name.chars().take(most).collect();
    // A dot before the dash would end a label of the name with nothing.
    format!("{prefix}{}-{hash}{suffix}", kept.trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        assert_eq!(bounded("conjur-migration.", "db", ""), "conjur-migration.db");
        let (one, other) = (format!("{}1", "a.".repeat(126)), format!("{}2", "a.".repeat(126)));
        assert_eq!(one.len(), 253);
        for (prefix, suffix) in [("conjur-migration.", ""), ("", "-migration-trial")] {
            let (one, other) = (bounded(prefix, &one, suffix), bounded(prefix, &other, suffix));
            assert!(one != other && conjur_operator_api::names::is_name(&one), "{one}");
        }
    }
}
