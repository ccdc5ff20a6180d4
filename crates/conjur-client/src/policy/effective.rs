//! The effective policy: what all loads of a branch came to.

use http::header::{CONTENT_TYPE, HeaderValue};

use super::branch_path;
use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::id::PolicyBranch;
use crate::observe::Endpoint;
use crate::response::{self, HttpAnswer};
use crate::session;
use crate::session::{json, longer};

impl Client {
    /// The effective policy of `branch` as YAML: `GET policies/{account}/policy/{branch}` (API: Get Effective Policy;
    /// recordings 126 to 136, 712, 725). Needs to own the branch.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is missing or invisible, [`Error::Unexpected`] with 500 where it is visible to
    /// someone who doesn't own it (134), [`Error::TooLarge`] above 16 MiB.
    pub async fn effective_policy(&self, branch: &PolicyBranch) -> Result<String, Error> {
        let answer = self.effective(branch, None).await?;
        let target = format!("the effective policy of {branch}");
        let text = std::str::from_utf8(answer.body.expose()).ok().filter(|text| !text.starts_with('<'));
        text.map(str::to_owned).ok_or_else(|| Error::Unexpected {
            status: Some(answer.status),
            message: response::not_an_api(&answer, self.session().about(&target, "it")),
        })
    }

    /// The same as JSON, which the server gives where the request's `Content-Type` is that (recordings 127 and 128).
    pub async fn effective_policy_json(&self, branch: &PolicyBranch) -> Result<serde_json::Value, Error> {
        let answer = self.effective(branch, Some(HeaderValue::from_static("application/json"))).await?;
        let target = format!("the effective policy of {branch}");
        json(&answer, self.session().about(&target, "it"))
    }

    async fn effective(&self, branch: &PolicyBranch, kind: Option<HeaderValue>) -> Result<HttpAnswer, Error> {
        let session = self.session();
        let call = Call {
            headers: kind.map(|kind| (CONTENT_TYPE, kind)).into_iter().collect(),
            timeout: longer(&session.limits),
            limit: session::BODY_LIMIT,
            ..session.get(Endpoint::EffectivePolicy, branch_path(session, branch))
        };
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = format!("the effective policy of {branch}");
        let about = session.about(&target, "the ownership of the branch");
        match answer.status {
            200..=299 => Ok(answer),
            500 => Err(Error::Unexpected {
                status: Some(500),
                message: format!(
                    "{} answered 500 for {target}, as it does to those who see the branch but don't own it",
                    about.url
                ),
            }),
            _ => Err(response::from_answer(&answer, about)),
        }
    }
}
