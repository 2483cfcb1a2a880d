//! The endpoints that can be called: two push services with five commands each, and the service of accounts with two.
//!
//! Owns: the names and the numbering of the endpoints. Must not know: what the commands do.

use std::fmt;

/// The vendor's services. The two push services offer the same commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimulatedService {
    /// `all_member_push`. Assumed: a call applies to all of its accounts or to none.
    AllMemberPush,
    /// `timpush`. A call may apply to a part of its accounts; `ErrorList` names the others.
    TimPush,
    /// `im_open_login_svc`, which knows the accounts of the app.
    OpenLogin,
}

/// A user-attribute command, without the service that it is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimulatedCommand {
    /// Sets the app's attribute names.
    SetAttrName,
    /// Reads the app's attribute names.
    GetAttrName,
    /// Sets attributes of users.
    SetAttr,
    /// Reads attributes of users.
    GetAttr,
    /// Removes attributes of users.
    RemoveAttr,
    /// Tells which accounts exist in the app.
    AccountCheck,
    /// Creates accounts in the app.
    MultiaccountImport,
}

impl SimulatedService {
    /// All services.
    pub const ALL: [Self; 3] = [Self::AllMemberPush, Self::TimPush, Self::OpenLogin];

    /// The name in the URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllMemberPush => "all_member_push",
            Self::TimPush => "timpush",
            Self::OpenLogin => "im_open_login_svc",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl SimulatedCommand {
    /// All commands.
    pub const ALL: [Self; 7] = [
        Self::SetAttrName,
        Self::GetAttrName,
        Self::SetAttr,
        Self::GetAttr,
        Self::RemoveAttr,
        Self::AccountCheck,
        Self::MultiaccountImport,
    ];

    /// The name in the URLs of `timpush`; the URLs of `all_member_push` prefix it with `im_`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SetAttrName => "set_attr_name",
            Self::GetAttrName => "get_attr_name",
            Self::SetAttr => "set_attr",
            Self::GetAttr => "get_attr",
            Self::RemoveAttr => "remove_attr",
            Self::AccountCheck => "account_check",
            Self::MultiaccountImport => "multiaccount_import",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }

    /// Whether the command belongs to this service.
    fn is_of(self, service: SimulatedService) -> bool {
        matches!(self, Self::AccountCheck | Self::MultiaccountImport) == (service == SimulatedService::OpenLogin)
    }

    /// Whether the command changes attributes of users.
    pub(super) fn writes_users(self) -> bool {
        matches!(self, Self::SetAttr | Self::RemoveAttr)
    }
}

/// One endpoint: a command of a service. The vendor's rate limit applies to each endpoint separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SimulatedEndpoint {
    /// The service that the URL names.
    pub service: SimulatedService,
    /// The command that the URL names.
    pub command: SimulatedCommand,
}

impl SimulatedEndpoint {
    pub(super) const COUNT: usize = SimulatedService::ALL.len() * SimulatedCommand::ALL.len();

    /// The endpoint of a URL path such as `/v4/timpush/set_attr`. Names are case-sensitive.
    pub(super) fn from_path(path: &str) -> Option<Self> {
        let (service, command) = path.strip_prefix("/v4/")?.split_once('/')?;
        let service = SimulatedService::parse(service)?;
        let command = match service {
            SimulatedService::AllMemberPush => command.strip_prefix("im_")?,
            SimulatedService::TimPush | SimulatedService::OpenLogin => command,
        };
        let command = SimulatedCommand::parse(command).filter(|command| command.is_of(service))?;
        Some(Self { service, command })
    }

    /// A number below [`Self::COUNT`], for arrays with one element per endpoint.
    pub(super) fn index(self) -> usize {
        self.service as usize * SimulatedCommand::ALL.len() + self.command as usize
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        SimulatedService::ALL
            .into_iter()
            .flat_map(|service| SimulatedCommand::ALL.map(|command| Self { service, command }))
    }
}

/// Such as `timpush/set_attr` or `all_member_push/im_set_attr`.
impl fmt::Display for SimulatedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.service {
            SimulatedService::AllMemberPush => "im_",
            SimulatedService::TimPush | SimulatedService::OpenLogin => "",
        };
        write!(f, "{}/{prefix}{}", self.service.name(), self.command.name())
    }
}
