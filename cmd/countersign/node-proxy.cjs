'use strict';
// Leads the TLS connections of Node.js to AWS through the proxy that HTTPS_PROXY
// names. The AWS SDK for JavaScript reads no proxy variable, and neither does
// Node's https module. This file is written by countersign and loaded by
// NODE_OPTIONS; it changes tls.connect, which https, http2 and fetch all end in.
//
// Hosts other than AWS's are left alone, as are ports other than 443, what NO_PROXY
// excepts, and connections that a program brings a socket of its own for (proxy
// agents do).

const net = require('net');
const tls = require('tls');
const { Duplex } = require('stream');
const { syncBuiltinESMExports } = require('module');

const suffixes = []; // what the CA may sign for: countersign writes them here
const maxHead = 64 << 10; // bytes of the proxy's answer to CONNECT

const proxy = readProxy(process.env.HTTPS_PROXY || process.env.https_proxy);
const exceptions = (process.env.NO_PROXY || process.env.no_proxy || '').toLowerCase().split(/[\s,]+/).filter(Boolean);
const connect = tls.connect;

function readProxy(address) {
  if (!address) return null;
  try {
    const url = new URL(address);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url : null;
  } catch {
    return null;
  }
}

function isForProxy(host, port) {
  if (Number(port) !== 443) return false;
  const name = String(host).toLowerCase().replace(/\.$/, '');
  if (!suffixes.some((suffix) => name === suffix || name.endsWith('.' + suffix))) return false;
  return !exceptions.some((exception) => {
    const [, pattern, only] = /^(?:\*?\.)?(.*?)(?::(\d+))?$/.exec(exception);
    return (exception === '*' || name === pattern || name.endsWith('.' + pattern)) && (!only || only === String(port));
  });
}

// A Tunnel is a connection by way of the proxy. What is written to it waits until
// the proxy has said that the way is open.
class Tunnel extends Duplex {
  constructor(host, port) {
    super();
    this.target = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    this.head = Buffer.alloc(0);
    const to = { host: proxy.hostname.replace(/^\[|\]$/g, ''), port: Number(proxy.port) || (proxy.protocol === 'https:' ? 443 : 80) };
    if (proxy.protocol === 'https:') {
      this.socket = connect({ ...to, servername: net.isIP(to.host) ? '' : to.host });
      this.socket.once('secureConnect', () => this.ask());
    } else {
      this.socket = net.connect(to);
      this.socket.once('connect', () => this.ask());
    }
    this.socket.setNoDelay(true);
    this.socket.setKeepAlive(true);
    this.answer = (data) => this.hear(data);
    this.socket.on('data', this.answer);
    this.socket.once('end', () => this.opened ? this.push(null) : this.destroy(this.failure('closed the connection')));
    this.socket.once('error', (error) => this.destroy(error));
    this.socket.once('close', () => this.destroy());
  }

  failure(what) {
    return new Error(`the proxy at ${proxy.host} ${what} when asked for ${this.target}`);
  }

  ask() {
    const head = [`CONNECT ${this.target} HTTP/1.1`, `Host: ${this.target}`];
    if (proxy.username || proxy.password) {
      const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
      head.push(`Proxy-Authorization: Basic ${Buffer.from(pair).toString('base64')}`);
    }
    this.socket.write(head.join('\r\n') + '\r\n\r\n');
  }

  hear(data) {
    this.head = Buffer.concat([this.head, data]);
    const end = this.head.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.head.length > maxHead) this.destroy(this.failure('answered more than a head'));
      return;
    }
    const [, status, reason] = /^HTTP\/1\.[01] (\d{3}) ?(.*)/.exec(this.head.toString('latin1')) || [];
    if (status !== '200') {
      this.destroy(this.failure(status ? `answered "${status} ${reason}"` : 'did not answer as a proxy'));
      return;
    }
    this.socket.removeListener('data', this.answer);
    this.socket.on('data', (more) => this.push(more) || this.socket.pause());
    this.opened = true;
    const rest = this.head.subarray(end + 4);
    this.head = null;
    if (rest.length > 0) this.push(rest);
    if (this.waiting) this.waiting();
  }

  _write(data, encoding, done) {
    const write = () => this.socket.write(data, encoding, done);
    if (this.opened) write(); else this.waiting = write;
  }

  _final(done) {
    const end = () => this.socket.end(done);
    if (this.opened) end(); else this.waiting = end;
  }

  _read() { if (this.opened) this.socket.resume(); }

  _destroy(error, done) {
    this.socket.destroy();
    done(error);
  }
}

// throughProxy is tls.connect in its three forms: (options), (port, host, options),
// (port, options), each with a callback.
function throughProxy(...given) {
  const rest = given.slice();
  let options = {};
  if (rest[0] !== null && typeof rest[0] === 'object') {
    options = { ...rest.shift() };
  } else {
    const port = rest.shift();
    const host = typeof rest[0] === 'string' ? rest.shift() : undefined;
    if (rest[0] !== null && typeof rest[0] === 'object') options = { ...rest.shift() };
    options.port = port;
    if (host !== undefined) options.host = host;
  }
  const { host, port } = options;
  if (options.socket || options.path || !host || !isForProxy(host, port)) return connect.apply(this, given);
  const tunnel = new Tunnel(host, port);
  const socket = connect.call(this, { ...options, socket: tunnel, servername: options.servername || host }, ...rest);
  // An idle connection that a client keeps must not keep the process.
  for (const name of ['ref', 'unref']) {
    const own = socket[name];
    socket[name] = function () {
      tunnel.socket[name]();
      return own.call(this);
    };
  }
  return socket;
}

if (proxy) {
  tls.connect = throughProxy;
  syncBuiltinESMExports();
}
