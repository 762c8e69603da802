// The page computes nothing: it sends its address and passes on the answer.
const say = text => document.getElementById("state").textContent = text;

async function configure() {
  const page = location.href.split("#")[0];
  const answer = await fetch("/wx/config?url=" + encodeURIComponent(page));
  if (!answer.ok) throw new Error(answer.status + ": " + await answer.text());
  const config = await answer.json();
  document.getElementById("config").textContent = JSON.stringify(config, null, 2);
  if (!window.wx) {
    say("The configuration is here. WeChat's script is not: open this page in WeChat.");
    return;
  }
  wx.ready(() => say("WeChat accepted the signature."));
  wx.error(result => say("WeChat rejected the configuration: " + result.errMsg));
  wx.config({ ...config, jsApiList: ["scanQRCode"] });
}

// Not before load: by then WeChat's script has loaded, or failed to.
addEventListener("load", () => configure().catch(error => say("No configuration. " + error.message)));
