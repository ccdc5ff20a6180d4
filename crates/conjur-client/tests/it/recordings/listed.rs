//! The steps that no call of the client sends, and why.

pub const LISTED: &[(&[u32], &str)] = &[
    (&[1], "the status page is for people; the client asks for JSON"),
    (&[3, 4, 5], "this server has no such routes"),
    (&[6, 594, 595, 596, 597, 690], "the administration of authenticators is left to policies and people"),
    (&[691], "the second version of the API is not used: it came with 1.24"),
    (&[8, 224, 638, 639], "the client sends no HEAD"),
    (&[12, 541, 556, 508], "credentials are always sent where a call needs them"),
    (&[542, 553, 565, 567, 554, 688, 509], "the client doesn't mix up tokens and passwords"),
    (&[16], "an empty key is refused before it is sent"),
    (&[41], "a login with a slash and without host/ is refused before it is sent"),
    (&[19, 39, 122, 123, 530, 531], "a path or method that the API doesn't have"),
    (&[109, 110], "the client writes dryRun=true, and nothing else"),
    (&[130, 131, 132], "the effective policy is asked for as a whole"),
    (&[159, 160, 253, 254, 258, 502], "what the types of the arguments exclude"),
    (&[221, 693, 298], "bodies are sent whole and as they are; nothing is expired"),
    (
        &[314, 363, 364, 365, 366, 367, 368, 369, 370, 371, 372, 373, 374, 375, 376, 377, 378],
        "never two ids alike in a batch",
    ),
    (&[324, 325, 326, 327, 328, 350], "a batch always has ids, and no empty ones"),
    (&[329, 330, 331], "ids in a batch are always full ones of variables"),
    (&[337], "an id with a comma goes alone"),
    (&[384, 390, 391, 392], "members are read, not counted; no graph"),
    (&[401, 402, 403, 404, 405, 406], "members are given and taken by policy"),
    (&[409, 410], "lists are of the client's account"),
    (&[417, 418, 421, 424], "a page always has a limit and an offset, both numbers"),
    (&[431], "an owner is named in full"),
    (&[433, 435, 436], "the parameter is named acting_as, of which role is another spelling"),
    (&[460, 469, 474], "a check always names a privilege and says true"),
    (
        &[480, 481, 482, 485, 486, 487, 489, 491, 492, 494],
        "tokens are asked for by a form with typed arguments",
    ),
    (&[590], "a JWT is always sent"),
    (&[689], "when a key was rotated last is not asked"),
];

pub fn reason(seq: u32) -> Option<&'static str> {
    LISTED.iter().find(|(steps, _)| steps.contains(&seq)).map(|(_, reason)| *reason)
}
