#include "http/reply.h"

static unsigned condition_status(const struct rg_xmpp_error *said)
{
    switch (said->condition) {
    case RG_XMPP_BAD_REQUEST:
    case RG_XMPP_JID_MALFORMED:
        return 400;
    case RG_XMPP_NOT_ACCEPTABLE:
        return 422;
    case RG_XMPP_ITEM_NOT_FOUND:
        return 404;
    case RG_XMPP_FORBIDDEN:
    case RG_XMPP_NOT_ALLOWED:
    case RG_XMPP_REGISTRATION_REQUIRED:
    case RG_XMPP_SUBSCRIPTION_REQUIRED:
        return 403;
    case RG_XMPP_CONFLICT:
    case RG_XMPP_UNEXPECTED_REQUEST:
        return 409;
    case RG_XMPP_FEATURE_NOT_IMPLEMENTED:
        return 501;
    case RG_XMPP_POLICY_VIOLATION:
        return said->type == RG_XMPP_TYPE_WAIT ? 429 : 403;
    case RG_XMPP_RESOURCE_CONSTRAINT:
    case RG_XMPP_SERVICE_UNAVAILABLE:
    case RG_XMPP_RECIPIENT_UNAVAILABLE:
        return 503;
    case RG_XMPP_REMOTE_SERVER_TIMEOUT:
        return 504;
    case RG_XMPP_REMOTE_SERVER_NOT_FOUND:
    case RG_XMPP_INTERNAL_SERVER_ERROR:
    case RG_XMPP_UNDEFINED_CONDITION:
    case RG_XMPP_NONE:
    case RG_XMPP_GONE:
    case RG_XMPP_NOT_AUTHORIZED:
    case RG_XMPP_REDIRECT:
        return 502;
    case RG_XMPP_CONDITION_COUNT:
        break;
    }
    return 502;
}

unsigned rg_reply_status(const struct rg_err *err, bool sign_in)
{
    switch (err->code) {
    case RG_OK:
        return 200;
    case RG_E_BAD_REQUEST:
    case RG_E_INVALID_JSON:
    case RG_E_INVALID_QUERY:
    case RG_E_UNKNOWN_PARAMETER:
        return 400;
    case RG_E_UNAUTHORIZED:
    case RG_E_CREDENTIALS:
    case RG_E_SIGN_IN_AGAIN:
        return 401;
    case RG_E_CSRF:
    case RG_E_DOMAIN:
    case RG_E_SELF_CONTACT:
        return 403;
    case RG_E_NOT_FOUND:
    case RG_E_ITEM_NOT_FOUND:
    case RG_E_ROSTER_NOT_FOUND:
        return 404;
    case RG_E_METHOD:
        return 405;
    case RG_E_VERSION_CHANGED:
        return 409;
    case RG_E_VERSION_EXPIRED:
        return 410;
    case RG_E_VERSION_MISMATCH:
        return 412;
    case RG_E_TOO_LARGE:
        return 413;
    case RG_E_MEDIA_TYPE:
        return 415;
    case RG_E_INVALID_ITEM:
    case RG_E_INVALID_JID:
        return 422;
    case RG_E_RATE:
        return 429;
    case RG_E_INTERNAL:
        return 500;
    case RG_E_NOT_IMPLEMENTED:
        return 501;
    case RG_E_NOT_APPLIED:
        return 502;
    case RG_E_UNREACHABLE:
        return sign_in ? 502 : 503;
    case RG_E_CANCELLED:
    case RG_E_POOL_FULL:
        return 503;
    case RG_E_TIMEOUT:
    case RG_E_UNCERTAIN:
        return 504;
    case RG_E_XMPP:
        return condition_status(&err->xmpp);
    case RG_CODE_COUNT:
        break;
    }
    return 500;
}

/* The conditions are linked to by their own names; what a server left out is undefined. */
static enum rg_condition said(const struct rg_err *err)
{
    return err->xmpp.condition == RG_XMPP_NONE ? RG_XMPP_UNDEFINED_CONDITION
                                               : err->xmpp.condition;
}

const char *rg_reply_code(const struct rg_err *err)
{
    return err->code == RG_E_XMPP ? rg_condition_name(said(err)) : rg_code_slug(err->code);
}

unsigned rg_reply_retry_after(const struct rg_err *err, unsigned status)
{
    if (err->retry_after_s > 0)
        return err->retry_after_s;
    if (status == 429)
        return 1;
    return status == 503 ? 5 : 0;
}
