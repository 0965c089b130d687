// Usage: node client.js NAME=PORT…  Prints "NAME accepted" or "NAME refused REASON".
// Trust comes from NODE_EXTRA_CA_CERTS.
const https = require('https');
const tls = require('tls');
const net = require('net');

async function attempt(name, port) {
  return new Promise((resolve) => {
    const request = https.request({
      host: '127.0.0.1', port, path: '/', agent: false,
      servername: net.isIP(name) ? '' : name,
      checkServerIdentity: (_, certificate) => tls.checkServerIdentity(name, certificate),
    }, (response) => { response.resume(); response.on('end', () => resolve('accepted')); });
    request.on('error', (e) => resolve(`refused ${e.code}: ${e.message}`));
    request.end();
  });
}

(async () => {
  for (const pair of process.argv.slice(2)) {
    const at = pair.lastIndexOf('=');
    const name = pair.slice(0, at);
    console.log(name, await attempt(name, Number(pair.slice(at + 1))));
  }
})();
