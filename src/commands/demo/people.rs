//! Made-up people, and the table they live in.
//!
//! Owns: who somebody is, by number and always the same; the demo's table. Must not know: how people change, IM.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sqlx::PgConnection;

/// The demo's table, as an application would have it: a trigger keeps the stamp, an index serves the polls.
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

/// Rows of one INSERT.
const CHUNK: usize = 20_000;

pub(super) const PLANS: [&str; 4] = ["free", "plus", "pro", "team"];

/// People of one language: where they live and what they are called.
#[derive(Clone, Copy)]
struct Culture {
    language: &'static str,
    cities: &'static [&'static str],
    women: &'static [&'static str],
    men: &'static [&'static str],
    families: &'static [&'static str],
    /// Between the two parts of a name, the family's first where `family_first`.
    space: &'static str,
    family_first: bool,
}

const CULTURES: [Culture; 8] = [
    Culture {
        language: "zh",
        cities: &["上海", "深圳", "成都", "杭州", "广州"],
        women: &["芳", "秀英", "婷", "雪", "静怡", "梓涵"],
        men: &["伟", "强", "磊", "俊杰", "浩然", "子轩"],
        families: &["王", "李", "张", "刘", "陈", "杨", "赵"],
        space: "",
        family_first: true,
    },
    Culture {
        language: "ja",
        cities: &["東京", "大阪", "京都", "札幌", "福岡"],
        women: &["さくら", "美咲", "陽菜", "葵", "結衣"],
        men: &["翔太", "蓮", "大輝", "健", "悠真"],
        families: &["佐藤", "鈴木", "高橋", "田中", "伊藤", "渡辺"],
        space: " ",
        family_first: true,
    },
    Culture {
        language: "ko",
        cities: &["서울", "부산", "인천", "대구"],
        women: &["서연", "지우", "하은", "민서", "수아"],
        men: &["민준", "도윤", "서준", "지호", "현우"],
        families: &["김", "이", "박", "최", "정"],
        space: "",
        family_first: true,
    },
    Culture {
        language: "en",
        cities: &["London", "Toronto", "Sydney", "Singapore", "Dublin", "San José"],
        women: &["Olivia", "Amelia", "Grace", "Zoë", "Chloe", "Maya"],
        men: &["Oliver", "Noah", "Jack", "Arthur", "Liam", "Ravi"],
        families: &["Smith", "O'Brien", "Taylor", "Nguyen", "Walker", "Patel", "Tan"],
        space: " ",
        family_first: false,
    },
    Culture {
        language: "de",
        cities: &["Berlin", "München", "Köln", "Zürich", "Wien"],
        women: &["Anna", "Jule", "Käthe", "Mia", "Sophie"],
        men: &["Jonas", "Björn", "Felix", "Paul", "Jürgen"],
        families: &["Müller", "Schmidt", "Weber", "Groß", "Lehmann", "Öztürk"],
        space: " ",
        family_first: false,
    },
    Culture {
        language: "pt",
        cities: &["São Paulo", "Lisboa", "Porto", "Recife", "Brasília"],
        women: &["Inês", "Beatriz", "Júlia", "Luiza", "Conceição"],
        men: &["João", "Miguel", "Tiago", "Caio", "Antônio"],
        families: &["Silva", "Souza", "Araújo", "Gonçalves", "Moreira"],
        space: " ",
        family_first: false,
    },
    Culture {
        language: "id",
        cities: &["Jakarta", "Bandung", "Surabaya", "Denpasar"],
        women: &["Siti", "Dewi", "Putri", "Ayu", "Wulan"],
        men: &["Budi", "Agus", "Rizky", "Dimas", "Eko"],
        families: &["Santoso", "Wijaya", "Hidayat", "Saputra", "Lestari"],
        space: " ",
        family_first: false,
    },
    Culture {
        language: "fr",
        cities: &["Lyon", "Paris", "Nantes", "Genève", "Montréal"],
        women: &["Chloé", "Léa", "Zélie", "Manon", "Aïcha"],
        men: &["Hugo", "Noé", "Théo", "Loïc", "Rayan"],
        families: &["Martin", "Dubois", "Lefèvre", "Benoît", "Garçon"],
        space: " ",
        family_first: false,
    },
];

/// Somebody, as they were when they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) city: &'static str,
    pub(super) language: &'static str,
    pub(super) plan: &'static str,
    pub(super) gender: Option<&'static str>,
    pub(super) level: i32,
    pub(super) vip: bool,
}

/// The account of the person with this number: `u000123`.
pub(super) fn id(number: u32) -> String {
    format!("u{number:06}")
}

/// The person with this number; the same seed and number give the same person.
pub(super) fn person(seed: u64, number: u32) -> Person {
    // Neighbouring seeds are as good as distant ones: `seed_from_u64` mixes them.
    let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
    let culture = pick(&mut dice, &CULTURES);
    let gender = pick(&mut dice, &[Some("m"), Some("f"), Some("m"), Some("f"), None]);
    let given = match gender {
        Some("m") => culture.men,
        Some(_) => culture.women,
        None => pick(&mut dice, &[culture.men, culture.women]),
    };
    let (given, family) = (pick(&mut dice, given), pick(&mut dice, culture.families));
    let (first, last) = if culture.family_first { (family, given) } else { (given, family) };
    let plan = match dice.random_range(0..100) {
        0..70 => PLANS[0],
        70..90 => PLANS[1],
        90..98 => PLANS[2],
        _ => PLANS[3],
    };
    Person {
        id: id(number),
        name: format!("{first}{}{last}", culture.space),
        city: pick(&mut dice, culture.cities),
        language: culture.language,
        plan,
        gender,
        level: dice.random_range(1..=60),
        vip: dice.random_range(0..100) < 3,
    }
}

/// Any city of any culture.
pub(super) fn some_city(dice: &mut StdRng) -> &'static str {
    let culture = pick(dice, &CULTURES);
    pick(dice, culture.cities)
}

/// A thing of a list that has some.
pub(super) fn pick<T: Copy>(dice: &mut StdRng, things: &[T]) -> T {
    *things.choose(dice).expect("the lists of this wait_for_capacity are not empty")
}

/// Writes people into the table, in few statements. Those who were there from the beginning (`past`) were last changed
/// at some time of the last thirty days, others now.
pub(super) async fn settle(
    connection: &mut PgConnection,
    seed: u64,
    numbers: std::ops::Range<u32>,
    past: bool,
) -> sqlx::Result<()> {
    let people: Vec<Person> = numbers.map(|number| person(seed, number)).collect();
    for chunk in people.chunks(CHUNK) {
        sqlx::query(
            "INSERT INTO users (id, name, city, language, plan, gender, level, vip, updated_at)
             SELECT *, CASE WHEN $9 THEN now() - random() * interval '30 days' ELSE now() END
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::bool[])",
        )
        .bind(chunk.iter().map(|person| person.id.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|person| person.name.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|person| person.city).collect::<Vec<_>>())
        .bind(chunk.iter().map(|person| person.language).collect::<Vec<_>>())
        .bind(chunk.iter().map(|person| person.plan).collect::<Vec<_>>())
        .bind(chunk.iter().map(|person| person.gender).collect::<Vec<_>>())
        .bind(chunk.iter().map(|person| person.level).collect::<Vec<_>>())
        .bind(chunk.iter().map(|person| person.vip).collect::<Vec<_>>())
        .bind(past)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
