//! The statements of moderation and of `ich user`. Runs on the threads of the pool, in a transaction.

use postgres::Client;
use postgres::types::{ToSql, Type};

use crate::accounts::rules::username_key;
use crate::accounts::store::{Change, SANCTIONS_MAX, loaded_time, stored_time};
use crate::clock;
use crate::moderation::{Sanction, SanctionKind};

const PUT: &str = "INSERT INTO sanctions (kind, username_key, username, by_user, reason, at_ms, until_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, username_key) DO UPDATE SET username = excluded.username, \
    by_user = excluded.by_user, reason = excluded.reason, at_ms = excluded.at_ms, until_ms = excluded.until_ms \
    WHERE excluded.at_ms > sanctions.at_ms";
const SELECT: &str = "SELECT kind, username, by_user, reason, at_ms, until_ms FROM sanctions \
    ORDER BY (until_ms IS NULL OR (until_ms > $1 AND until_ms > at_ms)) DESC, at_ms DESC LIMIT $2";

/// Changes an account. Returns the number of changed rows.
pub(super) fn change(client: &mut Client, id: i64, change: &Change) -> Result<u64, postgres::Error> {
    let id = (&id as &(dyn ToSql + Sync), Type::INT8);
    let rows = match change {
        Change::Admin(is_admin) => {
            let set = "UPDATE accounts SET is_admin = $2 WHERE id = $1 RETURNING id";
            client.query_typed(set, &[id, (is_admin, Type::BOOL)])
        }
        Change::PasswordHash(hash) => {
            let set = "UPDATE accounts SET password_hash = $2 WHERE id = $1 RETURNING id";
            client.query_typed(set, &[id, (hash, Type::TEXT)])
        }
        Change::Remove => client.query_typed("DELETE FROM accounts WHERE id = $1 RETURNING id", &[id]),
    };
    Ok(rows?.len() as u64)
}

pub(super) fn put_sanctions(client: &mut Client, sanctions: &[Sanction]) -> Result<(), postgres::Error> {
    for Sanction { kind, username, by, reason, at_ms, until_ms } in sanctions {
        let (at_ms, until_ms) = (stored_time(*at_ms), until_ms.map(stored_time));
        let texts = [kind.name(), &username_key(username), username, by, reason];
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = Vec::with_capacity(7);
        parameters.extend(texts.iter().map(|text| (text as _, Type::TEXT)));
        parameters.extend([(&at_ms as _, Type::INT8), (&until_ms as _, Type::INT8)]);
        client.query_typed(PUT, &parameters)?;
    }
    Ok(())
}

pub(super) fn sanctions(client: &mut Client) -> Result<Vec<Sanction>, postgres::Error> {
    let (now, most) = (stored_time(clock::unix_millis()), i64::from(SANCTIONS_MAX));
    let rows = client.query_typed(SELECT, &[(&now, Type::INT8), (&most, Type::INT8)])?;
    let mut sanctions = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(kind) = SanctionKind::stored(row.try_get(0)?) else { continue };
        let text = |column: usize| row.try_get::<_, &str>(column).map(Into::into);
        let until_ms = row.try_get::<_, Option<i64>>(5)?.map(loaded_time);
        let at_ms = loaded_time(row.try_get(4)?);
        sanctions.push(Sanction { kind, username: text(1)?, by: text(2)?, reason: text(3)?, at_ms, until_ms });
    }
    Ok(sanctions)
}
