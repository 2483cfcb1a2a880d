//! The table of the demo and its generated users.
//!
//! Owns: the table's definition, and the user that belongs to a number. Must not know: how users change, IM.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sqlx::PgConnection;

/// The table as a typical application defines it: a trigger maintains `updated_at`, and an index supports incremental
/// reads by it.
pub(super) const TABLE: &str = "
CREATE TABLE users (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    city       text,
    language   text NOT NULL,
    plan       text NOT NULL,
    gender     text CHECK (gender IN ('m', 'f')),
    level      integer NOT NULL,
    vip        boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.updated_at := now(); RETURN NEW; END';
CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE INDEX users_updated_at_id ON users (updated_at, id);
";

/// The number of rows of one INSERT.
const INSERT_ROWS: usize = 20_000;

/// The values of the column `plan`, from the most frequent to the rarest.
pub(super) const PLANS: [&str; 4] = ["free", "plus", "pro", "team"];

/// Cities and names that go with one language.
#[derive(Clone, Copy)]
struct Locale {
    language: &'static str,
    cities: &'static [&'static str],
    female_names: &'static [&'static str],
    male_names: &'static [&'static str],
    family_names: &'static [&'static str],
    /// What separates the given name from the family name.
    separator: &'static str,
    /// True when the family name comes before the given name.
    family_first: bool,
}

const LOCALES: [Locale; 8] = [
    Locale {
        language: "zh",
        cities: &["上海", "深圳", "成都", "杭州", "广州"],
        female_names: &["芳", "秀英", "婷", "雪", "静怡", "梓涵"],
        male_names: &["伟", "强", "磊", "俊杰", "浩然", "子轩"],
        family_names: &["王", "李", "张", "刘", "陈", "杨", "赵"],
        separator: "",
        family_first: true,
    },
    Locale {
        language: "ja",
        cities: &["東京", "大阪", "京都", "札幌", "福岡"],
        female_names: &["さくら", "美咲", "陽菜", "葵", "結衣"],
        male_names: &["翔太", "蓮", "大輝", "健", "悠真"],
        family_names: &["佐藤", "鈴木", "高橋", "田中", "伊藤", "渡辺"],
        separator: " ",
        family_first: true,
    },
    Locale {
        language: "ko",
        cities: &["서울", "부산", "인천", "대구"],
        female_names: &["서연", "지우", "하은", "민서", "수아"],
        male_names: &["민준", "도윤", "서준", "지호", "현우"],
        family_names: &["김", "이", "박", "최", "정"],
        separator: "",
        family_first: true,
    },
    Locale {
        language: "en",
        cities: &["London", "Toronto", "Sydney", "Singapore", "Dublin", "San José"],
        female_names: &["Olivia", "Amelia", "Grace", "Zoë", "Chloe", "Maya"],
        male_names: &["Oliver", "Noah", "Jack", "Arthur", "Liam", "Ravi"],
        family_names: &["Smith", "O'Brien", "Taylor", "Nguyen", "Walker", "Patel", "Tan"],
        separator: " ",
        family_first: false,
    },
    Locale {
        language: "de",
        cities: &["Berlin", "München", "Köln", "Zürich", "Wien"],
        female_names: &["Anna", "Jule", "Käthe", "Mia", "Sophie"],
        male_names: &["Jonas", "Björn", "Felix", "Paul", "Jürgen"],
        family_names: &["Müller", "Schmidt", "Weber", "Groß", "Lehmann", "Öztürk"],
        separator: " ",
        family_first: false,
    },
    Locale {
        language: "pt",
        cities: &["São Paulo", "Lisboa", "Porto", "Recife", "Brasília"],
        female_names: &["Inês", "Beatriz", "Júlia", "Luiza", "Conceição"],
        male_names: &["João", "Miguel", "Tiago", "Caio", "Antônio"],
        family_names: &["Silva", "Souza", "Araújo", "Gonçalves", "Moreira"],
        separator: " ",
        family_first: false,
    },
    Locale {
        language: "id",
        cities: &["Jakarta", "Bandung", "Surabaya", "Denpasar"],
        female_names: &["Siti", "Dewi", "Putri", "Ayu", "Wulan"],
        male_names: &["Budi", "Agus", "Rizky", "Dimas", "Eko"],
        family_names: &["Santoso", "Wijaya", "Hidayat", "Saputra", "Lestari"],
        separator: " ",
        family_first: false,
    },
    Locale {
        language: "fr",
        cities: &["Lyon", "Paris", "Nantes", "Genève", "Montréal"],
        female_names: &["Chloé", "Léa", "Zélie", "Manon", "Aïcha"],
        male_names: &["Hugo", "Noé", "Théo", "Loïc", "Rayan"],
        family_names: &["Martin", "Dubois", "Lefèvre", "Benoît", "Garçon"],
        separator: " ",
        family_first: false,
    },
];

/// A generated user, as first inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GeneratedUser {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) city: &'static str,
    pub(super) language: &'static str,
    pub(super) plan: &'static str,
    pub(super) gender: Option<&'static str>,
    pub(super) level: i32,
    pub(super) vip: bool,
}

/// The account of the user with this number, such as `u000123`.
pub(super) fn id(number: u32) -> String {
    format!("u{number:06}")
}

/// The user with this number. The same seed and number always give the same user.
pub(super) fn generate(seed: u64, number: u32) -> GeneratedUser {
    // `seed_from_u64` mixes its argument, so neighbouring seeds give independent sequences.
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
    let locale = pick(&mut rng, &LOCALES);
    let gender = pick(&mut rng, &[Some("m"), Some("f"), Some("m"), Some("f"), None]);
    let given = match gender {
        Some("m") => locale.male_names,
        Some(_) => locale.female_names,
        None => pick(&mut rng, &[locale.male_names, locale.female_names]),
    };
    let (given, family) = (pick(&mut rng, given), pick(&mut rng, locale.family_names));
    let (first, last) = if locale.family_first { (family, given) } else { (given, family) };
    let plan = match rng.random_range(0..100) {
        0..70 => PLANS[0],
        70..90 => PLANS[1],
        90..98 => PLANS[2],
        _ => PLANS[3],
    };
    GeneratedUser {
        id: id(number),
        name: format!("{first}{}{last}", locale.separator),
        city: pick(&mut rng, locale.cities),
        language: locale.language,
        plan,
        gender,
        level: rng.random_range(1..=60),
        vip: rng.random_range(0..100) < 3,
    }
}

/// A random city of a random locale.
pub(super) fn random_city(rng: &mut StdRng) -> &'static str {
    let locale = pick(rng, &LOCALES);
    pick(rng, locale.cities)
}

/// A random element of a list, which must not be empty.
pub(super) fn pick<T: Copy>(rng: &mut StdRng, list: &[T]) -> T {
    *list.choose(rng).expect("the lists in this module are not empty")
}

/// Inserts the users with these numbers, with few statements.
///
/// `updated_at` is now, or a random time in the last 30 days when `backdated` is set.
pub(super) async fn insert(
    connection: &mut PgConnection,
    seed: u64,
    numbers: std::ops::Range<u32>,
    backdated: bool,
) -> sqlx::Result<()> {
    let users: Vec<GeneratedUser> = numbers.map(|number| generate(seed, number)).collect();
    for chunk in users.chunks(INSERT_ROWS) {
        sqlx::query(
            "INSERT INTO users (id, name, city, language, plan, gender, level, vip, updated_at)
             SELECT *, CASE WHEN $9 THEN now() - random() * interval '30 days' ELSE now() END
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::bool[])",
        )
        .bind(chunk.iter().map(|user| user.id.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|user| user.name.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|user| user.city).collect::<Vec<_>>())
        .bind(chunk.iter().map(|user| user.language).collect::<Vec<_>>())
        .bind(chunk.iter().map(|user| user.plan).collect::<Vec<_>>())
        .bind(chunk.iter().map(|user| user.gender).collect::<Vec<_>>())
        .bind(chunk.iter().map(|user| user.level).collect::<Vec<_>>())
        .bind(chunk.iter().map(|user| user.vip).collect::<Vec<_>>())
        .bind(backdated)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
