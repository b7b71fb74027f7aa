//! What a scenario is made of: steps that can be taken in any world, so that any of them can be
//! left out.

use std::fmt;
use std::time::Duration;

/// A home of the world.
pub(crate) type Home = &'static str;

/// Something that is done to a world. One that has no point where it comes does nothing: killing
/// who does not run, sending from a home that is down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Time passes.
    Wait(Duration),
    /// A home sends so many messages to a person at once.
    Send { from: Home, to: Home, count: u32 },
    /// A home ends in the middle of whatever it does.
    Kill(Home),
    /// A home ends after so many commits more, before anything that the last one allows leaves.
    KillAtCommit(Home, u32),
    /// A home stops in order.
    Stop(Home),
    /// A home starts.
    Start(Home),
    /// Every other home stops, and this one starts.
    Alone(Home),
    /// What a home has on its disk now is what a later [`Step::PutBack`] finds.
    Copy(Home),
    /// A home ends, and starts from its copy: the power failed, or a backup was restored.
    PutBack(Home),
    /// Each commit of a home takes so long from now on.
    SlowDisk(Home, Duration),
    /// A home's clock is wrong by so many days from now on.
    Clock { home: Home, days: u32, late: bool },
    /// All links between two homes are cut, and both notice.
    CutLinks(Home, Home),
    /// All links between two homes fall silent, and both notice late.
    SilenceLinks(Home, Home),
    /// Two homes cannot reach each other from now on.
    Part(Home, Home),
    /// A home cannot reach the rendezvous from now on.
    PartFromServer(Home),
    /// Everybody can reach everybody again.
    Join,
    /// Links lose, repeat and disorder envelopes from now on, or do not any more.
    Tamper(bool),
    /// The rendezvous stops in order.
    StopServer,
    /// The rendezvous ends in the middle of whatever it does.
    KillServer,
    /// The rendezvous ends after so many turns more, after it has saved and before it answers.
    KillServerAtTurn(u32),
    /// The rendezvous starts.
    StartServer,
    /// What the rendezvous has on its disk now is what a later [`Step::PutServerBack`] finds.
    CopyServer,
    /// The rendezvous ends, and starts from its copy.
    PutServerBack,
    /// Everything ends at once, and starts again.
    KillAll,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(time) => write!(f, "wait {time:?}"),
            Self::Send { from, to, count: 1 } => write!(f, "{from} sends one to {to}"),
            Self::Send { from, to, count } => write!(f, "{from} sends {count} to {to}"),
            Self::Kill(home) => write!(f, "kill {home}"),
            Self::KillAtCommit(home, after) => write!(f, "kill {home} after {after} commits more"),
            Self::Stop(home) => write!(f, "stop {home}"),
            Self::Start(home) => write!(f, "start {home}"),
            Self::Alone(home) => write!(f, "{home} alone is up"),
            Self::Copy(home) => write!(f, "copy {home}'s profile"),
            Self::PutBack(home) => write!(f, "put {home}'s copy back"),
            Self::SlowDisk(home, time) => write!(f, "a commit of {home} takes {time:?}"),
            Self::Clock { home, days: 0, .. } => write!(f, "{home}'s clock is right"),
            Self::Clock { home, days, late: true } => {
                write!(f, "{home}'s clock is {days} days late")
            }
            Self::Clock { home, days, .. } => write!(f, "{home}'s clock is {days} days early"),
            Self::CutLinks(one, other) => write!(f, "cut links of {one} and {other}"),
            Self::SilenceLinks(one, other) => write!(f, "silence links of {one} and {other}"),
            Self::Part(one, other) => write!(f, "part {one} and {other}"),
            Self::PartFromServer(home) => write!(f, "part {home} from the rendezvous"),
            Self::Join => write!(f, "join all that was parted"),
            Self::Tamper(true) => write!(f, "links tamper"),
            Self::Tamper(false) => write!(f, "links do not tamper"),
            Self::StopServer => write!(f, "stop the rendezvous"),
            Self::KillServer => write!(f, "kill the rendezvous"),
            Self::KillServerAtTurn(after) => {
                write!(f, "kill the rendezvous after {after} turns more")
            }
            Self::StartServer => write!(f, "start the rendezvous"),
            Self::CopyServer => write!(f, "copy the rendezvous' store"),
            Self::PutServerBack => write!(f, "put the rendezvous' copy back"),
            Self::KillAll => write!(f, "kill and start everything"),
        }
    }
}
