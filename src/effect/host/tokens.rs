//! Tokens of host factories: what there are, and their end.

use crate::{
    api::host::PendingEnrolment,
    conjur::{Client, Error, HostFactoryToken},
    plan::host::{step::FactoryLook, tokens::may_be_made_for_one_enrolment},
};

/// What is seen of a factory, and its tokens; none where it does not exist, or can't be seen.
///
/// # Errors
/// Conjur's.
pub async fn look(
    client: &Client,
    factory: &str,
) -> Result<Option<(FactoryLook, Vec<HostFactoryToken>)>, Error> {
    let Some(shown) = client.show_host_factory(factory).await? else { return Ok(None) };
    let now = client.server_date().await?.as_second();
    let expiries = shown.tokens.iter().map(|token| token.expiration.as_second()).collect();
    Ok(Some((FactoryLook { now, expiries }, shown.tokens)))
}

/// Revokes a token; one that is gone already is none.
///
/// # Errors
/// Conjur's.
pub async fn revoke(client: &Client, token: &HostFactoryToken) -> Result<(), Error> {
    match client.revoke_host_factory_token(&token.token).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Revokes the token that a status announces, if it is there and can be one of the operator's.
///
/// # Errors
/// Conjur's.
pub async fn revoke_announced(client: &Client, token: &PendingEnrolment) -> Result<(), Error> {
    let Some((seen, tokens)) = look(client, &token.factory).await? else { return Ok(()) };
    if !may_be_made_for_one_enrolment(token, &seen) {
        return Ok(());
    }
    for own in tokens.iter().filter(|own| own.expiration.as_second() == token.expires) {
        revoke(client, own).await?;
    }
    Ok(())
}
