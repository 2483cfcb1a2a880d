//! The ten addresses that can be called: two services with five commands each.
//!
//! Owns: their names and their order. Must not know: what they do.

use std::fmt;

/// The vendor's two push services, which offer the same commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// `all_member_push`: a call applies wholly or not at all (assumed).
    AllMemberPush,
    /// `timpush`: a call may apply in part, with the other accounts in `ErrorList`.
    TimPush,
}

/// What a call does, whichever service it is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    SetAttrName,
    GetAttrName,
    SetAttr,
    GetAttr,
    RemoveAttr,
}

impl Service {
    pub const ALL: [Self; 2] = [Self::AllMemberPush, Self::TimPush];

    /// The name in the URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllMemberPush => "all_member_push",
            Self::TimPush => "timpush",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl Command {
    pub const ALL: [Self; 5] = [Self::SetAttrName, Self::GetAttrName, Self::SetAttr, Self::GetAttr, Self::RemoveAttr];

    /// The name in `timpush`'s URLs; `all_member_push` puts `im_` before it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SetAttrName => "set_attr_name",
            Self::GetAttrName => "get_attr_name",
            Self::SetAttr => "set_attr",
            Self::GetAttr => "get_attr",
            Self::RemoveAttr => "remove_attr",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }

    /// The command changes users' attributes.
    pub(super) fn writes_users(self) -> bool {
        matches!(self, Self::SetAttr | Self::RemoveAttr)
    }
}

/// One address: a service and a command. The vendor's rate limit counts each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub service: Service,
    pub command: Command,
}

impl Endpoint {
    pub(super) const COUNT: usize = 10;

    /// From a URL's path such as `/v4/timpush/set_attr`; names are case-sensitive.
    pub(super) fn from_path(path: &str) -> Option<Self> {
        let (service, command) = path.strip_prefix("/v4/")?.split_once('/')?;
        let service = Service::parse(service)?;
        let command = match service {
            Service::AllMemberPush => command.strip_prefix("im_")?,
            Service::TimPush => command,
        };
        Some(Self { service, command: Command::parse(command)? })
    }

    pub(super) fn index(self) -> usize {
        self.service as usize * Command::ALL.len() + self.command as usize
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        Service::ALL.into_iter().flat_map(|service| Command::ALL.map(|command| Self { service, command }))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.service {
            Service::AllMemberPush => "im_",
            Service::TimPush => "",
        };
        write!(f, "{}/{prefix}{}", self.service.name(), self.command.name())
    }
}
