//! A hash over what an object refers to: while it is equal, a restart trusts Ready.

use aws_lc_rs::digest;

/// A short hash over parts, in order; the length of each part counts, so that parts can't run together.
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    hex::encode(&context.finish().as_ref()[..16])
}

/// Hex SHA-256 of a document, as Conjur's `policy_sha256` has it (recording 701).
pub fn document_hash(document: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, document).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
        assert_eq!(hash(["ab", "c"]), hash(["ab", "c"]));
    }

    #[test]
    fn the_document_hash_is_the_one_that_conjur_lists() {
        assert_eq!(
            document_hash(b"- !host web\n- !variable v\n"),
            "f3163579c06773198fb8294b17eb060d7a779e07aae0733b5bf140753fa79a8e"
        );
    }
}
