//! Subscription groups: 207.

headers! {
    /// Of DELETE_SUBSCRIPTIONGROUP (207). Source: DeleteSubscriptionGroupRequestHeader (4.9.3).
    DeleteSubscriptionGroupHeader {
        group_name: String = "groupName",
        removes_offset: bool = "removeOffset",
    }
}
