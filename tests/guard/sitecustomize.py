"""Python runs this when it starts: processes that tests start are kept on this machine as well."""

import loopback_only

loopback_only.install()
