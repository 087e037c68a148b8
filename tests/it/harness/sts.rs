//! AssumeRole, as the regional STS endpoint answers it.

use std::time::Instant;

use aws_stub::shapes;
pub(crate) use aws_stub::sts::{Session, Sessions};
use aws_stub::sts::{assume_role, form};

use super::http::{Answer, Reply, Request, Server, handler};
use super::journal::{Call, Journal, Service, request_id};
use super::{check_own_signature, sigv4, wall_clock};

pub(crate) struct Sts {
    pub server: Server,
    pub sessions: Sessions,
}

impl Sts {
    pub(crate) async fn start(journal: Journal) -> Self {
        let sessions = Sessions::new(wall_clock());
        let opened = sessions.clone();
        let server = Server::start(handler(move |request: Request| {
            let (journal, sessions) = (journal.clone(), opened.clone());
            async move { answer(&journal, &sessions, request).await }
        }))
        .await;
        Self { server, sessions }
    }
}

async fn answer(journal: &Journal, sessions: &Sessions, request: Request) -> Reply {
    let form = form(&request.body);
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    check_own_signature(journal, &request);
    journal.check_request(|| shapes::faults_of_form("sts", &form));
    let (_, region) = sigv4::signer(&request).unwrap_or_default();
    let id = request_id();
    let call = Call {
        at: Instant::now(),
        answered: None,
        service: Service::Sts,
        action: field("Action").unwrap_or_default(),
        account: "hub".into(),
        region,
        session: String::new(),
        body: String::from_utf8_lossy(&request.body).into_owned(),
        request_id: id.clone(),
    };
    let refuse = |status: u16, code: &str, message: &str| error(&id, status, code, message);
    journal
        .serve(
            call,
            || async {
                match assume_role(&form, sessions) {
                    Ok(xml) => Answer::new(200, "text/xml", xml.replace("{request_id}", &id)),
                    Err(message) => refuse(400, "ValidationError", &message),
                }
            },
            refuse,
        )
        .await
}

fn error(id: &str, status: u16, code: &str, message: &str) -> Answer {
    let body = aws_stub::sts::error(id, code, message);
    Answer::new(status, "text/xml", body).header("x-amzn-requestid", id)
}
