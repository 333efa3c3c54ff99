//! Transactions: 37, 39 and 323.

headers! {
    /// Of END_TRANSACTION (37): the half message by queue offset and by physical offset, and the
    /// transaction bits of a system flag. Source: EndTransactionRequestHeader (4.9.3).
    EndTransactionHeader {
        producer_group: String = "producerGroup",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        commit_or_rollback: i32 = "commitOrRollback",
        from_transaction_check: bool = "fromTransactionCheck",
        msg_id: Option<String> = "msgId",
        transaction_id: Option<String> = "transactionId",
    }

    /// Of CHECK_TRANSACTION_STATE (39). Source: CheckTransactionStateRequestHeader (4.9.3).
    CheckTransactionStateHeader {
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        msg_id: Option<String> = "msgId",
        transaction_id: Option<String> = "transactionId",
        offset_msg_id: Option<String> = "offsetMsgId",
    }

    /// Of RESUME_CHECK_HALF_MESSAGE (323). Source: ResumeCheckHalfMessageRequestHeader (4.9.3).
    ResumeCheckHalfMessageHeader {
        msg_id: Option<String> = "msgId",
    }
}
