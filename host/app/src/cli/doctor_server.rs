//! The check that asks the server.

use super::Global;
use super::doctor::{Finding, words};
use super::failure::{Exit, Failure};

const CHECK: &str = "server";

/// Whether the server answers, is ready, and knows the token.
pub(crate) fn reachable(global: &Global) -> Finding {
    let asked = global.client().and_then(|client| {
        client.get("/readyz", &Vec::new())?;
        client.get("/v1/me", &Vec::new())?;
        Ok(client.url().to_owned())
    });
    judge(asked, global.url.is_some())
}

fn judge(asked: Result<String, Failure>, named: bool) -> Finding {
    match asked {
        Ok(url) => Finding::ok(CHECK, format!("{url} is ready and knows the token")),
        Err(failure) => {
            let detail = words(&failure);
            match (failure.exit, failure.status()) {
                (_, Some(401 | 403)) => Finding::fail(
                    CHECK,
                    detail,
                    "set HORARIUM_TOKEN to the text of admin-token in the server's data directory",
                ),
                // Nobody asked for one in particular: it may simply not have been started yet.
                (Exit::Unreachable, _) if !named => {
                    Finding::warn(CHECK, detail, "start one with `horarium serve`")
                }
                (Exit::Unreachable, _) => Finding::fail(
                    CHECK,
                    detail,
                    "check the address in HORARIUM_URL or --url, and that the server runs",
                ),
                _ => Finding::fail(CHECK, detail, "look at the server's log"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    #[test]
    fn a_missing_server_fails_only_when_it_was_named() {
        let gone = || Err(Failure::unreachable("no server"));
        assert_eq!(judge(gone(), false).status, Status::Warn);
        assert_eq!(judge(gone(), true).status, Status::Fail);
        let denied = Err(Failure::from_answer(401, ""));
        assert_eq!(judge(denied, false).status, Status::Fail);
        assert_eq!(judge(Ok("http://x".into()), false).status, Status::Ok);
    }
}
