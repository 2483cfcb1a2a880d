//! Tests which accounts a full pass counts as met: no account that was not met is ever left out.

use super::*;
use crate::state::account::RetryDue;

const FULL: u64 = 5;
const BEFORE: u64 = 4;
const BESIDE: u64 = 6;

/// A row of `account` that a delivery writes (`has_row`) or deletes.
fn record(account: &str, existed: bool, has_row: bool) -> AccountRecord {
    let value = if has_row { AcknowledgedValue::Value("Rome".into()) } else { AcknowledgedValue::Absent };
    AccountRecord {
        account: Account::new(account),
        exists: existed,
        acknowledged: vec![value],
        due: RetryDue::OnChange,
        late_write: None,
    }
}

/// A full pass over accounts, with the rows of `account` as they are at its end.
struct Simulated {
    met: MetAccounts,
    empty: BucketSums,
}

impl Simulated {
    fn begin() -> Self {
        let met = MetAccounts::default();
        let empty = met.begin(FULL);
        Self { met, empty }
    }

    /// The full pass reads this account.
    fn meets(&self, account: &str, is_stored: bool) {
        self.met.note_compared(std::iter::once((account, is_stored)), true);
    }

    /// An incremental pass compares this account.
    fn compares(&self, account: &str, is_stored: bool) {
        self.met.note_compared(std::iter::once((account, is_stored)), false);
    }

    fn defers(&self, account: &str) {
        self.met.note_in_flight(std::iter::once(&Account::new(account)));
    }

    fn records(&self, pass: u64, account: &str, existed: bool, has_row: bool) {
        self.met.note_recorded(pass, &[record(account, existed, has_row)]);
    }

    /// Which of these rows of `account` are looked up.
    fn looked_up<'a>(&self, stored: &[&'a str]) -> Vec<&'a str> {
        let mut sums = self.empty.clone();
        for account in stored {
            sums.add(account);
        }
        let differing = self.met.differing(&sums);
        stored.iter().copied().filter(|account| differing.contain(account)).collect()
    }
}

#[test]
fn only_accounts_that_were_not_met_are_looked_up() {
    let pass = Simulated::begin();
    pass.meets("kept", true);
    pass.meets("new", false);
    pass.records(FULL, "new", false, true);
    pass.meets("changed", true);
    pass.records(FULL, "changed", true, true);
    pass.meets("emptied", true);
    pass.records(FULL, "emptied", true, false);
    pass.meets("bot", false);
    assert_eq!(pass.looked_up(&["kept", "new", "changed", "gone"]), ["gone"]);
    assert!(pass.looked_up(&["kept", "new", "changed"]).is_empty());
}

#[test]
fn rows_that_incremental_passes_write_are_counted_once() {
    let pass = Simulated::begin();
    // Before the full pass meets them.
    pass.records(BESIDE, "new", false, true);
    pass.meets("new", true);
    pass.records(BESIDE, "left", true, false);
    pass.meets("left", false);
    pass.records(BESIDE, "back", true, false);
    pass.records(BESIDE, "back", false, true);
    pass.meets("back", true);
    // After it.
    pass.meets("later", false);
    pass.records(BESIDE, "later", false, true);
    pass.meets("later left", true);
    pass.records(BESIDE, "later left", true, false);
    // Behind the full pass's position: it meets none of these.
    pass.records(BESIDE, "behind", false, true);
    assert!(pass.looked_up(&["new", "back", "later", "behind"]).is_empty());
}

#[test]
fn accounts_in_flight_are_counted_when_they_are_compared() {
    let pass = Simulated::begin();
    for account in ["updated", "old insert", "new insert", "waits"] {
        pass.defers(account);
    }
    pass.records(BESIDE, "updated", true, true);
    pass.records(BEFORE, "old insert", false, true);
    pass.records(BESIDE, "new insert", false, true);
    for account in ["updated", "old insert", "new insert"] {
        pass.compares(account, true);
        pass.compares(account, true);
    }
    let stored = ["updated", "old insert", "new insert", "waits"];
    assert_eq!(pass.looked_up(&stored), ["waits"], "one that was not compared yet costs a look-up");
}

/// A delivery of an earlier pass inserts an account whose row left before the full pass began.
#[test]
fn a_row_that_was_read_before_the_pass_began_proves_nothing() {
    let pass = Simulated::begin();
    pass.records(BEFORE, "gone", false, true);
    assert_eq!(pass.looked_up(&["gone"]), ["gone"]);
}

#[test]
fn rows_behind_the_comparison_are_not_counted() {
    let pass = Simulated::begin();
    pass.meets("m", true);
    pass.meets("c", true);
    pass.met.note_read_up_to("m");
    pass.records(BESIDE, "b", false, true);
    pass.records(BESIDE, "c", true, false);
    pass.records(BESIDE, "x", false, true);
    assert!(pass.looked_up(&["c", "m", "x"]).is_empty());
}

#[test]
fn nothing_is_counted_between_full_passes() {
    let pass = Simulated::begin();
    pass.meets("u", true);
    pass.met.end();
    pass.records(BESIDE, "v", false, true);
    assert_eq!(pass.looked_up(&["u"]), ["u"]);
    let again = pass.met.begin(BESIDE);
    assert_eq!(pass.met.differing(&again).len(), 0);
}

/// Whatever is counted, and however often: an account that was not met and is stored is looked up.
#[test]
fn an_account_that_was_not_met_is_always_looked_up() {
    for round in 0..2_000_u64 {
        let pass = Simulated::begin();
        // A generator of its own: the rounds must not depend on a clock.
        let mut random = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..next(40) {
            let account = format!("a{}", next(6));
            let (flag, other) = (next(2) == 0, next(2) == 0);
            match next(5) {
                0 => pass.meets(&account, flag),
                1 => pass.compares(&account, flag),
                2 => pass.defers(&account),
                3 => pass.records(BESIDE, &account, flag, other),
                _ => pass.records(BEFORE, &account, flag, other),
            }
            // Deliveries and comparisons of the account that was not met: only deletions, and what earlier passes did.
            match next(4) {
                0 => pass.records(BESIDE, "gone", true, false),
                1 => pass.records(BEFORE, "gone", false, true),
                _ => {}
            }
        }
        assert_eq!(pass.looked_up(&["gone"]), ["gone"], "round {round}");
    }
}
