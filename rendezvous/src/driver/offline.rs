//! The same core without a server around it: for who runs the server while it does not run.

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};

use super::{Kept, StartError, now, params};
use crate::admin::{AdminReply, AdminRequest};
use crate::config::Config;
use crate::folder::DataFolder;
use crate::server::{AdminId, Loopback, Output, Server};
use crate::store::Store;
use crate::turn::settle;

/// The core over the data folder of a server that does not run, and that cannot start meanwhile.
#[derive(Debug)]
pub(crate) struct Offline {
    server: Server,
    store: Store,
    bus: Loopback,
    rng: StdRng,
    /// Let go of last, when the database is closed.
    _folder: Option<DataFolder>,
}

impl Offline {
    /// Opens the data folder, unless a server has it.
    pub(crate) fn open(config: &Config) -> Result<Self, StartError> {
        let mut rng = StdRng::try_from_rng(&mut SysRng)?;
        let Kept { folder, store, keys, opaque } =
            Kept::open(&config.data, DataFolder::open, &mut rng)?;
        // Nobody registers meanwhile.
        let server = Server::new(params(config, None, &keys, opaque, &mut rng));
        Ok(Self { server, store, bus: Loopback::default(), rng, _folder: folder })
    }

    /// What the core says to a request; nothing if it says nothing, which is a bug.
    pub(crate) fn ask(&mut self, request: AdminRequest) -> Option<AdminReply> {
        let (id, now) = (AdminId(0), now());
        let Self { server, store, bus, rng, .. } = self;
        server.handle_admin(id, request, now, rng);
        let outputs = settle(server, store, bus, now, rng);
        outputs.into_iter().find_map(|output| match output {
            Output::Admin { reply, .. } => Some(reply),
            Output::Query(..)
            | Output::Publish(_)
            | Output::Reply { .. }
            | Output::Event { .. }
            | Output::Mail { .. }
            | Output::Close { .. } => None,
        })
    }
}
