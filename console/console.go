// Package console signs people in to the AWS console under the roles of the
// proxy: [Federation] turns a role session into a sign-in URL, and [Server] is the
// web page where people choose a role.
//
// Traps:
//   - A sign-in URL is a credential: for fifteen minutes whoever holds it is the
//     role. It is answered once, never cached, logged or recorded, and [Login] does
//     not print it.
//   - The browser talks to the console directly, so nothing that the proxy enforces
//     on calls reaches it. The limits of a role go along as a session policy, which
//     AWS enforces; limits that a session policy cannot express refuse the sign-in.
//     See [Limits].
//   - SessionDuration fails the sign-in for sessions that came of role chaining or
//     GetFederationToken; it is sent for the others only.
//   - Cookies do not keep ports apart: another server on this machine's loopback that
//     the person visits receives the cookie as well. On a machine that people share,
//     use OpenID Connect and a host name of its own.
//   - What the page shows comes from clients: labels, attributes, object keys. It is
//     written by html/template or as text nodes, and the page runs no inline script.
package console
