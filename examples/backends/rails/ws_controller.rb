# app/controllers/ws_controller.rb
# ANCHOR: events
class WsController < ActionController::API
  before_action :only_the_gateway

  def connect
    head(params[:channel] == "general" ? :ok : :forbidden)
  end

  def message
    data = JSON.parse(request.raw_post) rescue nil
    return render json: { type: "error", text: "actions: say" } unless data.is_a?(Hash) && data["action"] == "say"
    Tidegate.push("general", { type: "said", text: data["text"] }, except: request.headers["connectionId"])
    render json: { type: "ok" }
  end

  def disconnect
    Tidegate.push("general", { type: "left", id: request.headers["connectionId"] })
    head :ok
  end

  private

  def only_the_gateway
    secret, sent = ENV["TIDEGATE_SECRET"].to_s, request.headers["X-Ws-Gateway-Secret"].to_s
    head :forbidden unless secret.empty? || ActiveSupport::SecurityUtils.secure_compare(sent, secret)
  end
end
# ANCHOR_END: events
