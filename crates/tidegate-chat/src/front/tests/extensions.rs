//! Integrations, traits, and settings that shape what clients see.

use super::*;

#[derive(Debug)]
struct Echo;

impl Integrations for Echo {
    fn invoke<'a>(
        &'a self,
        integration: &'a str,
        _: Option<ConnectionId>,
        event: Value,
        chat_user: Value,
    ) -> BoxFuture<'a, Result<Option<Value>, String>> {
        let answer = json!({"integration": integration, "event": event, "chatUser": chat_user});
        Box::pin(async move { Ok(Some(answer)) })
    }
}

// S2-117: events that are unknown by settings, and events that an integration handles.
#[tokio::test(flavor = "multi_thread")]
async fn the_map_of_events() {
    let chat = json!({"events": {
        "disabled": ["room.join"], "route": {"message.pin": "a1b2c3", "room.list": "d4e5f6"},
    }});
    let world = World::new(chat, Extensions::default(), Some(Arc::new(Echo))).await;
    assert_eq!(world.plan(7, "room.join", json!({})).await.unwrap_err(), ChatError::InvalidEventType);
    assert_eq!(world.plan(7, "room.pin", json!({})).await.unwrap_err(), ChatError::InvalidEventType);
    for (event_type, integration) in [("message.pin", "a1b2c3"), ("room.list", "d4e5f6")] {
        let planned = world.plan(7, event_type, json!({"a": 1})).await.unwrap();
        let Planned::Answered(Some(answer)) = planned else { panic!("{event_type} was not routed") };
        assert_eq!(answer["integration"], integration);
        assert_eq!(answer["event"], json!({"event_type": event_type, "data": {"a": 1}}));
        assert_eq!(answer["chatUser"]["username"], "ana");
    }
}

struct Ours(Arc<Mutex<Vec<String>>>);

impl ChatApp for Ours {
    fn event<'a>(&'a self, event: Incoming<'a>) -> BoxFuture<'a, Result<(), ChatError>> {
        self.0.lock().push(event.event_type.to_owned());
        Box::pin(async move {
            match event.event_type {
                "message.react" => Err(ChatError::Custom { code: 4029, detail: "Slow down".into() }),
                _ => Ok(()),
            }
        })
    }

    fn connected<'a>(&'a self, user: &'a User, _: ConnectionId) -> BoxFuture<'a, Result<(), ChatError>> {
        let is_cy = &*user.username == "cy";
        Box::pin(async move {
            match is_cy {
                true => Err(ChatError::Custom { code: 4444, detail: "Not you".into() }),
                false => Ok(()),
            }
        })
    }
}

impl ChatHandler for Ours {
    fn typing(&self, ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
        // S2-122: dispatches of an extension leave with those of the built-in.
        ctx.dispatch(ctx.own_audience(), "ours.typing", json!({}));
        ChatHandler::next(self).typing(ctx, data)
    }

    fn list_rooms(&self, _: &mut Ctx<'_>, _: &Map<String, Value>) -> Result<(), ChatError> {
        panic!("on purpose");
    }
}

impl PermissionPolicy for Ours {
    fn can_access_room(&self, ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
        if &*ctx.actor.username == "cy" {
            Ok(())
        } else {
            PermissionPolicy::next(self).can_access_room(ctx, room)
        }
    }
}

impl ErrorMapper for Ours {
    fn map(&self, error: &ChatError, settings: &Settings) -> Value {
        let mut frame = ErrorMapper::next(self).map(error, settings);
        frame["ours"] = json!(true);
        frame
    }
}

impl Presenter for Ours {
    fn user(&self, user: &User, mut shown: Value) -> Value {
        shown["initial"] = json!(user.username.chars().next());
        shown
    }

    fn room_detail(&self, room: &Room, mut shown: Value) -> Value {
        shown["cap"] = json!(room.cap);
        shown
    }
}

impl ContentFilter for Ours {
    fn clean(&self, _: &mut Ctx<'_>, text: String) -> Result<String, String> {
        if text.contains("curse") {
            Err("Mind your language.".to_owned())
        } else {
            Ok(text.replace("darn", "****"))
        }
    }
}

impl NotificationSink for Ours {
    fn notified<'a>(&'a self, notification: &'a Notified) -> BoxFuture<'a, Result<(), ChatError>> {
        let recipients = notification.recipients.iter().map(|recipient| recipient.user.username.to_string());
        self.0.lock().push(format!("notified {}", recipients.collect::<Vec<_>>().join(" ")));
        Box::pin(async { Ok(()) })
    }
}

fn ours() -> (Extensions, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let one = Arc::new(Ours(Arc::clone(&seen)));
    let extensions = Extensions {
        app: Arc::clone(&one) as _,
        handler: Arc::clone(&one) as _,
        permission: Arc::clone(&one) as _,
        errors: Arc::clone(&one) as _,
        presenter: Some(Arc::clone(&one) as _),
        content: vec![Arc::clone(&one) as _],
        notifications: vec![Arc::clone(&one) as _],
        router: Arc::new(Routes::new().register("message.pin", |ctx, data| {
            let own = ctx.own_audience();
            ctx.dispatch(own, "message.pinned", Value::Object(data.clone()));
            Ok(())
        })),
        ..Extensions::default()
    };
    (extensions, seen)
}

// S2-121, S2-122: each trait bends what it is for, reaches what it replaces, and its panic ends one event only.
#[tokio::test(flavor = "multi_thread")]
async fn traits_bend_the_application() {
    let (extensions, seen) = ours();
    let world = World::new(json!({"notifications": false}), extensions, None).await;
    let room = world.group().await;
    assert_eq!(*seen.lock(), ["room.create"]);
    let limited = world.run(7, "message.react", json!({})).await.unwrap_err();
    assert_eq!(limited, ChatError::Custom { code: 4029, detail: "Slow down".into() });
    assert_eq!(world.front.error_frame(&limited, &world.settings.load())["ours"], true);

    let typed = world.run(7, "message.typing", json!({"room_id": room})).await.unwrap();
    let Frame::Event { event_type, .. } = &typed[0].frame else { panic!("{typed:?}") };
    assert_eq!((event_type.as_ref(), typed.len()), ("ours.typing", 2));
    let broken = world.run(7, "room.list", json!({})).await.unwrap_err();
    assert_eq!(broken, ChatError::Internal("a handler panicked: on purpose".to_owned()));

    let info = world.run(9, "room.info", json!({"room_id": room})).await.unwrap();
    let shown = data_of(&info[0]);
    assert_eq!((&shown["cap"], &shown["creator"]["initial"]), (&json!(100), &json!("a")));
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    let wrong = send("a curse").await.unwrap_err();
    assert_eq!(wrong, ChatError::field("content", "Mind your language."));
    assert_eq!(data_of(&send("darn it").await.unwrap()[0])["content"], "**** it");
    let pinned = world.run(7, "message.pin", json!({"n": 1})).await.unwrap();
    assert_eq!(data_of(&pinned[0]), &json!({"n": 1}));
    let connection = crate::test_database::TestDatabase::connection(9);
    let refused = world.front.connected(&world.settings.load(), &World::user(9), connection, 0).await;
    assert_eq!(refused.unwrap_err(), ConnectRefusal { code: 4444, reason: "Not you".to_owned() });
}

/// A directory of somebody's own: the boss is nobody.
struct NoBoss;

impl crate::extension::UserDirectory for NoBoss {
    fn get(&self, tx: &mut dyn Tx, id: &UserId) -> Result<Option<User>, ChatError> {
        if id.as_str() == "8" { Ok(None) } else { crate::extension::UserDirectory::next(self).get(tx, id) }
    }
}

// S2-121: notifications have their sinks, told after the commit; a directory falls back on the built-in one.
#[tokio::test(flavor = "multi_thread")]
async fn sinks_and_directories() {
    let (extensions, seen) = ours();
    let world = World::new(json!({}), extensions, None).await;
    let room = world.group().await;
    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    world.run(7, "message.send", json!({"room_id": room, "content": "x"})).await.unwrap();
    until(async || seen.lock().contains(&"notified ben".to_owned())).await;
    runner.abort();
    let work = Box::new(|tx: &mut dyn Tx| {
        let ids = ["7", "8", "9"].map(|id| UserId(id.into()));
        let directory: &dyn crate::extension::UserDirectory = &NoBoss;
        let found = directory.get_many(tx, &ids).unwrap();
        assert_eq!(found.iter().map(|user| &*user.username).collect::<Vec<_>>(), ["ana", "cy"]);
        Ok(Outcome::Rollback(Box::new(|| ())))
    });
    world.database.read(work).await.unwrap();
}

// S2-124, S2-126: what objects show, and fields without code.
#[tokio::test(flavor = "multi_thread")]
async fn settings_shape_objects() {
    let chat = json!({
        "notifications": false,
        "render": {"user": {"fields": ["username", "avatar"]}, "message": {"drop": ["delivered_to"]},
                   "room": {"drop": ["description"]}},
        "fields": {
            "message": {"priority": {"type": "integer", "default": 1, "updatable": true}},
            "group": {"topic": {"type": "string", "required": true, "updatable": true}},
        },
        "type_names": {"GroupChat": "Team"},
    });
    let world = World::new(chat, Extensions::default(), None).await;
    let refused = world.run(7, "room.create", json!({"type": "Team", "name": "Reef"})).await.unwrap_err();
    assert_eq!(refused, ChatError::field("topic", "This field is required."));
    let data =
        json!({"type": "Team", "name": "Reef", "participants": [8], "extra_fields": {"topic": "fish"}});
    let made = world.run(7, "room.create", data).await.unwrap();
    let room = data_of(&made[0]).clone();
    assert_eq!((&room["type"], &room["topic"]), (&json!("Team"), &json!("fish")));
    assert!(room.get("description").is_none() && room.get("name").is_some());
    assert_eq!(room["creator"], json!({"id": 7, "username": "ana", "avatar": "a.png"}));
    let update = json!({"room_id": room["id"], "action": "update", "data": {"topic": "crabs"}});
    let updated = world.run(7, "room.modify", update).await.unwrap();
    assert_eq!(data_of(&updated[0])["topic"], "crabs");
    let wrong = json!({"room_id": room["id"], "action": "update", "data": {"topic": 5}});
    let refused = world.run(7, "room.modify", wrong).await.unwrap_err();
    assert_eq!(refused, ChatError::field("topic", "Not a valid string."));

    let data = json!({"room_id": room["id"], "content": "x"});
    let sent = data_of(&world.run(7, "message.send", data).await.unwrap()[0]).clone();
    assert_eq!((&sent["priority"], sent.get("delivered_to")), (&json!(1), None));
    let data = json!({"room_id": room["id"], "content": "x", "extra_fields": {"priority": "high"}});
    let refused = world.run(7, "message.send", data).await.unwrap_err();
    assert_eq!(refused, ChatError::field("priority", "A valid integer is required."));
    let fields = json!({"content": "y", "priority": 3});
    let edit = json!({"action": "update", "message_id": sent["id"], "extra_fields": fields});
    let edited = world.run(7, "message.modify", edit).await.unwrap();
    assert_eq!(data_of(&edited[0])["message"]["priority"], 3);
}

// S2-125, S2-32: simple forms of errors, and a rule's text once.
#[test]
fn forms_of_errors() {
    let plain = Settings::default();
    let simple = json!({"errors": {"4003": {"detail": "text"}, "wrap_invalid_event": true}});
    let simple = Settings::read(&simple, &|_| None).unwrap();
    let map = |error: &ChatError, settings: &Settings| Extensions::built_in().errors.map(error, settings);
    let error = ChatError::rule("Chat already exists", Diagnosis::CHAT_BAD_PAYLOAD);
    assert_eq!(map(&error, &plain), json!({"error": {"code": 4003, "detail": ["Chat already exists"]}}));
    assert_eq!(map(&error, &simple), json!({"error": {"code": 4003, "detail": "Chat already exists"}}));
    let fields = json!({"name": ["This field is required."], "1": {"media_type": ["no"]}});
    let Value::Object(fields) = fields else { unreachable!() };
    let text = map(&ChatError::Fields(fields), &simple);
    assert_eq!(text["error"]["detail"], "1.media_type: no name: This field is required.");
    let unknown = &ChatError::InvalidEventType;
    assert_eq!(map(unknown, &plain), json!({"error": "invalid event type"}));
    assert_eq!(map(unknown, &simple), json!({"error": {"code": 4003, "detail": "invalid event type"}}));
    let denied = ChatError::Custom { code: 4007, detail: json!({"why": ["x"]}) };
    assert_eq!(map(&denied, &simple)["error"]["detail"], json!({"why": ["x"]}), "only 4003 is flattened");
}
