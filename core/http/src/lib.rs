//! What may be asked of a node over HTTP: the routes with the permission that each needs, and requests as
//! values. Opens no socket, holds no state and does nothing: what comes of a request is the node's.

mod asked;
mod caller;
mod description;
mod devices;
mod document;
mod problem;
mod route;

pub use asked::{Asked, Logs, router};
pub use caller::{credentials, names_local_host};
pub use description::{
    Action, Alteration, DEPLOY_HEADER, Description, ModeName, Start, StartName, StateScope,
};
pub use devices::{Enrolled, Enrolment, Renewal};
pub use document::{index, openapi, schemas};
pub use problem::Problem;
pub use route::{Method, Need, Route};
