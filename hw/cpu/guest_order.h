// The order of the guest's ordinary loads and stores, which are atomic but in no order: the guest asks for one by
// FENCE, which is the host's fence.
//
// ThreadSanitizer does not see fences. Under it every load acquires and every store releases, so that what a driver has
// put in order for a device is known to be. It finds what our side of a ring gets wrong, and no fence that is missing
// in a guest.
#pragma once

namespace ashlar {

#if defined(__SANITIZE_THREAD__)
#define ASHLAR_GUEST_IN_ORDER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ASHLAR_GUEST_IN_ORDER 1
#endif
#endif

#ifdef ASHLAR_GUEST_IN_ORDER
inline constexpr int kGuestLoadOrder = __ATOMIC_ACQUIRE, kGuestStoreOrder = __ATOMIC_RELEASE;
#undef ASHLAR_GUEST_IN_ORDER
#else
inline constexpr int kGuestLoadOrder = __ATOMIC_RELAXED, kGuestStoreOrder = __ATOMIC_RELAXED;
#endif

}  // namespace ashlar
