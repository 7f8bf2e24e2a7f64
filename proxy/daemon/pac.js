// Which way a URL goes: what belongs to the tunnel to the proxy, the rest directly.  Old engines run this, so it is
// ECMAScript 3.  Addresses are text of binary digits with their family in front, so that a network is a beginning:
// isInNet() knows IPv4 only, and asks the host's resolver about names.

function binary(number, width) {
  var text = number.toString(2);
  while (text.length < width) text = "0" + text;
  return text;
}

function bits4(text) {
  var parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!parts) return "";
  var found = "";
  for (var i = 1; i <= 4; i++) {
    if (Number(parts[i]) > 255) return "";
    found += binary(Number(parts[i]), 8);
  }
  return found;
}

function groups(text) {
  return text ? text.split(":") : [];
}

function bits6(text) {
  var at = text.lastIndexOf(":") + 1;
  if (!at) return "";
  var dotted = bits4(text.slice(at)); // ::ffff:192.0.2.1
  if (dotted) {
    text = text.slice(0, at) + parseInt(dotted.slice(0, 16), 2).toString(16) + ":" +
      parseInt(dotted.slice(16), 2).toString(16);
  }
  var halves = text.split("::");
  var first = groups(halves[0]);
  var last = halves.length > 1 ? groups(halves[1]) : [];
  while (halves.length === 2 && first.length + last.length < 8) first.push("0");
  var all = first.concat(last);
  if (halves.length > 2 || all.length !== 8) return "";
  var found = "";
  for (var i = 0; i < 8; i++) {
    if (!/^[0-9a-f]{1,4}$/.test(all[i])) return "";
    found += binary(parseInt(all[i], 16), 16);
  }
  return found;
}

var MAPPED = bits6("::ffff:0:0").slice(0, 96);

// "" where it is not an address
function bits(text) {
  var found = bits4(text);
  if (found) return "4" + found;
  found = bits6(text);
  if (!found) return "";
  return found.slice(0, 96) === MAPPED ? "4" + found.slice(96) : "6" + found;
}

function compile(networks) {
  var found = [];
  for (var i = 0; i < networks.length; i++) {
    var parts = networks[i].split("/");
    found.push(bits(parts[0]).slice(0, 1 + Number(parts[1])));
  }
  return found;
}

// How much of the address the closest of the networks fixes; 0 where none holds it
function closest(networks, address) {
  var most = 0;
  for (var i = 0; i < networks.length; i++) {
    var network = networks[i];
    if (network.length > most && address.slice(0, network.length) === network) most = network.length;
  }
  return most;
}

inside = compile(inside);
outside = compile(outside);

function covers(address) {
  var most = closest(inside, address);
  return most > 0 && most >= closest(outside, address);
}

function endsWith(name, end) {
  return ("." + name).slice(-end.length) === end;
}

function belongs(name) {
  for (var i = 0; i < names.length; i++) {
    if (name === names[i]) return true;
  }
  for (i = 0; i < suffixes.length; i++) {
    if (endsWith(name, suffixes[i])) return true;
  }
  return false;
}

function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/^\[|\]$/g, "").replace(/%.*$/, "").replace(/\.$/, "");
  if (host === own || endsWith(host, ".localhost")) return "DIRECT";
  var address = bits(host);
  if (address) return covers(address) ? proxies : "DIRECT";
  if (belongs(host)) return proxies;
  if (host.indexOf(".") < 0) return plain ? proxies : "DIRECT";
  if (endsWith(host, ".local")) return "DIRECT"; // RFC 6762
  if (everywhere) return proxies;
  // It would go directly, which needs its address as well: that the host's resolver is asked tells it nothing new.
  return inside.length && covers(bits(dnsResolve(host) || "")) ? proxies : "DIRECT";
}
