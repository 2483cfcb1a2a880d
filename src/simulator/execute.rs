//! Executing the commands on the app's state.
//!
//! Owns: what each command changes, and how the two services answer when an account is refused. Must not know: HTTP,
//! time, records, why a fault rule refuses an account.

use super::answer::{AnsweredUser, CheckedAccount, RefusedAccount, VendorAnswer};
use super::app_state::AppState;
use super::endpoint::SimulatedService;
use super::error_code;
use super::json::{JsonObject, JsonText};
use super::request::{AccountToCheck, ParsedRequest, UserToRemove, UserToSet};

/// The result of an executed request.
pub(super) struct ExecutionResult {
    /// The code of the answer.
    pub(super) code: i64,
    /// The request was executed for at least one account. A read counts as executed.
    pub(super) applied: bool,
    /// Accounts for which it was not executed, while it was for others.
    pub(super) refused: Vec<RefusedAccount>,
    /// The body of the answer.
    pub(super) json: Vec<u8>,
}

impl ExecutionResult {
    fn success(answer: VendorAnswer<'_>, refused: Vec<RefusedAccount>) -> Self {
        let json = answer.with_refused(&refused).into_json();
        Self { code: error_code::OK, applied: true, refused, json }
    }

    fn failure(code: i64, call: u64) -> Self {
        Self { code, applied: false, refused: Vec::new(), json: VendorAnswer::new(code, call).into_json() }
    }
}

/// Executes `request`. The accounts in `refused` fail with their codes. `call` is the number of the call, for the
/// answer's `RequestId`.
pub(super) fn execute(
    app: &mut AppState,
    service: SimulatedService,
    request: &ParsedRequest<'_>,
    refused: &[RefusedAccount],
    call: u64,
) -> ExecutionResult {
    match request {
        ParsedRequest::SetNames { names, types } => match app.set_names(names, types) {
            Ok(()) => ExecutionResult::success(VendorAnswer::new(error_code::OK, call), Vec::new()),
            Err(code) => ExecutionResult::failure(code, call),
        },
        ParsedRequest::GetNames => {
            let mut answer = VendorAnswer::new(error_code::OK, call);
            answer.names = Some(app.names_by_number().map(|(number, name)| (number.to_string(), name)).collect());
            ExecutionResult::success(answer, Vec::new())
        }
        ParsedRequest::Set(users) => write(app, service, users, refused, call),
        ParsedRequest::Remove(users) => write(app, service, users, refused, call),
        ParsedRequest::Get(accounts) => read(app, service, accounts, refused, call),
        ParsedRequest::CheckAccounts(accounts) => check_existence(app, accounts, refused, call),
        ParsedRequest::ImportAccounts(accounts) => import(app, accounts, refused, call),
    }
}

/// Assumed: an account that cannot be checked, because it is not well-formed or a fault rule refuses it, has its code as
/// `ResultCode` and no status that means anything.
fn check_existence(
    app: &AppState,
    accounts: &[JsonObject<AccountToCheck<'_>>],
    refused: &[RefusedAccount],
    call: u64,
) -> ExecutionResult {
    let checked = accounts.iter().filter_map(|item| item.0.account.get()).map(|account| {
        let (code, status) = match check_account(app, account, refused) {
            Ok(()) => (error_code::OK, "Imported"),
            Err(error_code::NOT_IMPORTED) => (error_code::OK, "NotImported"),
            Err(code) => (code, ""),
        };
        CheckedAccount { account, code, info: error_code::error_info(code), status }
    });
    let mut answer = VendorAnswer::new(error_code::OK, call);
    answer.checked = Some(checked.collect());
    ExecutionResult::success(answer, Vec::new())
}

/// Importing an account again has no effect. Assumed: an account that is not well-formed, or that a fault rule refuses, is
/// listed in `FailAccounts`, and the others are imported.
fn import(app: &mut AppState, accounts: &[JsonText<'_>], refused: &[RefusedAccount], call: u64) -> ExecutionResult {
    let mut failed = Vec::new();
    for account in accounts.iter().filter_map(JsonText::get) {
        let is_refused = refused.iter().any(|refusal| refusal.account == account);
        if is_refused || !app.is_well_formed(account) {
            failed.push(account);
        } else {
            app.set_imported(account, true);
        }
    }
    let applied = failed.len() < accounts.len();
    let mut answer = VendorAnswer::new(error_code::OK, call);
    answer.not_imported = Some(failed);
    let mut result = ExecutionResult::success(answer, Vec::new());
    result.applied = applied;
    result
}

/// Assumed: `all_member_push` answers with the code of the first refused account and applies nothing. `timpush` answers
/// with code 0 even if its `ErrorList` names every account. An account that a call names twice is processed in order.
fn write<U: UserWrite>(
    app: &mut AppState,
    service: SimulatedService,
    users: &[U],
    refused: &[RefusedAccount],
    call: u64,
) -> ExecutionResult {
    let mut errors = Vec::new();
    for user in users {
        let account = user.account();
        if let Err(code) = check_account(app, account, refused).and_then(|()| user.check(app)) {
            if service == SimulatedService::AllMemberPush {
                return ExecutionResult::failure(code, call);
            }
            errors.push(RefusedAccount { account: account.to_owned(), code });
        } else if service == SimulatedService::TimPush {
            user.apply(app);
        }
    }
    if service == SimulatedService::AllMemberPush {
        for user in users {
            user.apply(app);
        }
    }
    let applied = errors.len() < users.len();
    let mut result = ExecutionResult::success(VendorAnswer::new(error_code::OK, call), errors);
    result.applied = applied;
    result
}

/// Assumed: an account that does not exist is refused by a read as it is by a write.
fn read(
    app: &AppState,
    service: SimulatedService,
    accounts: &[JsonText<'_>],
    refused: &[RefusedAccount],
    call: u64,
) -> ExecutionResult {
    let mut errors = Vec::new();
    let mut users = Vec::with_capacity(accounts.len());
    for account in accounts.iter().filter_map(JsonText::get) {
        match check_account(app, account, refused) {
            Ok(()) => users.push(AnsweredUser { account, attributes: app.attributes_of(account) }),
            Err(code) if service == SimulatedService::AllMemberPush => return ExecutionResult::failure(code, call),
            Err(code) => errors.push(RefusedAccount { account: account.to_owned(), code }),
        }
    }
    let mut answer = VendorAnswer::new(error_code::OK, call);
    answer.users = Some(users);
    ExecutionResult::success(answer, errors)
}

/// Checks an account against the accounts that a fault rule refuses, then against the app's state.
fn check_account(app: &AppState, account: &str, refused: &[RefusedAccount]) -> Result<(), i64> {
    match refused.iter().find(|refusal| refusal.account == account) {
        Some(refusal) => Err(refusal.code),
        None => app.check_account(account),
    }
}

/// One user of a call that sets or removes attributes.
trait UserWrite {
    fn account(&self) -> &str;
    /// Checks whether the vendor accepts the user's attributes. The error is the vendor's code.
    fn check(&self, app: &AppState) -> Result<(), i64>;
    /// Applies a write that [`UserWrite::check`] accepted.
    fn apply(&self, app: &mut AppState);
}

impl UserWrite for JsonObject<UserToSet<'_>> {
    fn account(&self) -> &str {
        self.0.account.get().unwrap_or_default()
    }

    /// Assumed: 90033 is the code for a value that is not a string, is empty or is too long.
    fn check(&self, app: &AppState) -> Result<(), i64> {
        for (name, value) in &self.0.attributes.0 {
            app.check_attribute(self.account(), name)?;
            let bytes = value.get().map_or(0, str::len);
            if bytes == 0 || bytes > app.limits().value_bytes {
                return Err(error_code::BAD_ATTRIBUTE);
            }
        }
        Ok(())
    }

    fn apply(&self, app: &mut AppState) {
        for (name, value) in &self.0.attributes.0 {
            if let Some(number) = name.get().and_then(|name| app.number_of(name)) {
                app.set_attribute(self.account(), number, value.get());
            }
        }
    }
}

impl UserWrite for JsonObject<UserToRemove<'_>> {
    fn account(&self) -> &str {
        self.0.account.get().unwrap_or_default()
    }

    /// Assumed: removing an attribute whose name is not set in the app is refused; removing an attribute that the user
    /// does not have is accepted.
    fn check(&self, app: &AppState) -> Result<(), i64> {
        self.0.attributes.iter().try_for_each(|name| app.check_attribute(self.account(), name))
    }

    fn apply(&self, app: &mut AppState) {
        for name in &self.0.attributes {
            if let Some(number) = name.get().and_then(|name| app.number_of(name)) {
                app.set_attribute(self.account(), number, None);
            }
        }
    }
}
