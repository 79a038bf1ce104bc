//! Computes the skeletons of usernames that earlier versions stored without one. Runs on the threads of the pool, after each
//! connect.

use std::collections::HashSet;

use postgres::types::Type;
use postgres::{Client, Error, Transaction};

use super::schema::{MIGRATION_LIMITS, MIGRATION_LOCK};
use crate::accounts::{rules, store};

/// Accounts in one transaction.
const BATCH: i64 = 1000;

const ANY_MISSING: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE username_skeleton IS NULL)";
const MISSING: &str = "SELECT id, username FROM accounts WHERE username_skeleton IS NULL ORDER BY id LIMIT $1";
const TAKEN: &str = "SELECT username_skeleton FROM accounts WHERE username_skeleton = ANY($1)";
const SET: &str = "UPDATE accounts SET username_skeleton = computed.skeleton \
                   FROM unnest($1::bigint[], $2::text[]) AS computed (id, skeleton) WHERE accounts.id = computed.id";

/// Computes all missing skeletons. If two accounts look the same, the older one reserves the name, and both go on working.
pub(super) fn fill(client: &mut Client) -> Result<(), Error> {
    while client.query_typed_one(ANY_MISSING, &[])?.try_get(0)? {
        let mut transaction = client.transaction()?;
        transaction.batch_execute(MIGRATION_LIMITS)?;
        transaction.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&MIGRATION_LOCK, Type::INT8)])?;
        fill_batch(&mut transaction)?;
        transaction.commit()?;
    }
    Ok(())
}

fn fill_batch(transaction: &mut Transaction<'_>) -> Result<(), Error> {
    let (mut ids, mut skeletons) = (Vec::new(), Vec::new());
    for row in transaction.query_typed(MISSING, &[(&BATCH, Type::INT8)])? {
        ids.push(row.try_get::<_, i64>(0)?);
        skeletons.push(rules::username_skeleton(row.try_get(1)?));
    }
    let taken = transaction.query_typed(TAKEN, &[(&skeletons, Type::TEXT_ARRAY)])?;
    let mut taken = taken.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<String>, _>>()?;
    for (id, skeleton) in ids.iter().zip(&mut skeletons) {
        if !taken.insert(skeleton.clone()) {
            *skeleton = store::colliding_skeleton(skeleton, *id);
        }
    }
    transaction.query_typed(SET, &[(&ids, Type::INT8_ARRAY), (&skeletons, Type::TEXT_ARRAY)])?;
    Ok(())
}
